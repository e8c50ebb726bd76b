// SPDX-License-Identifier: Apache-2.0

package update

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/lupatch/lupatch/internal/journal"
	"github.com/lupatch/lupatch/internal/refuse"
	"github.com/lupatch/lupatch/kpatch"
	"github.com/lupatch/lupatch/quiesce"
	"github.com/lupatch/lupatch/versions"
)

// rollback takes one update back.
type rollback struct {
	h      *Host
	opt    *Options
	update *versions.Update
	result *Result
}

// Rollback takes the update name back, the newest one if name is empty. With
// Options.Later what stands on it goes before it, the newest first, each in a
// change of its own: a host is always at some version, and if one of them cannot
// be left the error says which are back. Modules are unloaded if that is safe; if
// not, that is no error and the result says why. It needs root. Refusals are those
// of versions.State.CheckRollback and TransitionReversed: then that update is in
// force as before.
func (h *Host) Rollback(ctx context.Context, name string, opt Options) ([]Result, error) {
	if err := h.Kernel.SeesAllTasks(); err != nil {
		return nil, err
	}
	if !opt.DryRun {
		unlock, err := h.lock()
		if err != nil {
			return nil, err
		}
		defer unlock()
	}
	state, err := h.State(ctx)
	if err != nil {
		return nil, err
	}
	list, err := state.CheckRollback(name, opt.Later)
	if err != nil {
		return nil, err
	}
	results := make([]Result, len(list))
	for i, u := range list {
		results[i] = Result{Update: u.Manifest.Name, Module: u.Module, Manifest: u.Manifest}
	}
	if _, err := h.settledHistory(); err != nil {
		return nil, err
	}
	if opt.DryRun {
		return results, nil
	}
	j, err := journal.Open(h.journalPath())
	if err != nil {
		return nil, err
	}
	defer j.Close()
	for i, u := range list {
		r := &rollback{h: h, opt: &opt, update: u, result: &results[i]}
		if err := r.run(ctx, j); err != nil {
			return nil, halfway(results[:i], u.Manifest.Name, err)
		}
	}
	return results, nil
}

// halfway says of a rollback of several updates which are back already.
func halfway(done []Result, at string, err error) error {
	if len(done) == 0 {
		return err
	}
	var names []string
	for _, r := range done {
		names = append(names, r.Update)
	}
	back := strings.Join(names, ", ")
	var unfinished *UndoError
	if e, ok := refuse.As(err); ok && !errors.As(err, &unfinished) {
		told := *e
		told.Detail = fmt.Sprintf("%s; taken back before it: %s", e.Detail, back)
		return &told
	}
	return fmt.Errorf("taking back %s: %w (taken back before it: %s)", at, err, back)
}

func (r *rollback) run(ctx context.Context, j *journal.Journal) error {
	name := r.update.Manifest.Name
	c, err := r.h.newChange(KindRollback, r.opt)
	if err != nil {
		return err
	}
	c.Updates = []string{name}
	for _, s := range []Step{{Name: "disabling", Do: r.disable, Undo: r.enable}, {Name: "transition", Do: r.wait, Final: true}, {Name: "unloading", Do: r.unload}} {
		s.Update, s.BuildID, s.Module = name, r.update.BuildID, func() string { return r.update.Module }
		c.Steps = append(c.Steps, s)
	}
	return c.run(ctx, j, r.opt.report)
}

func (r *rollback) disable(ctx context.Context) error {
	return r.h.Kernel.Disable(ctx, r.update.Module)
}

// enable turns the transition round.
func (r *rollback) enable(ctx context.Context) error {
	if err := r.h.Kernel.Enable(ctx, r.update.Module); err != nil {
		return err
	}
	left := r.left(ctx)
	enabled, err := r.h.Kernel.Wait(ctx, r.update.Module, r.h.explaining(ctx, left, r.report(journal.Undo)))
	if err != nil {
		return r.h.waits(ctx, r.update.Module, left, err)
	}
	if !enabled {
		err = fmt.Errorf("livepatch %s was disabled by someone else", r.update.Module)
	}
	return err
}

// left are the functions that a task leaves which goes back to the update: those
// that were in force below it.
func (r *rollback) left(ctx context.Context) []quiesce.Function {
	state, err := r.h.State(ctx)
	if err != nil {
		return nil
	}
	return leaving(state.Without(r.update.Module), r.update.Manifest)
}

func (r *rollback) report(state journal.State) func(kpatch.Progress) {
	return func(p kpatch.Progress) {
		r.opt.report(Event{Update: r.update.Manifest.Name, Step: "transition", State: state, Transition: &p})
	}
}

func (r *rollback) wait(ctx context.Context) error {
	begin := time.Now()
	limited, cancel := context.WithTimeout(ctx, r.opt.deadline())
	defer cancel()
	left := entered(r.update.Manifest, r.update.Module)
	enabled, err := r.h.Kernel.Wait(limited, r.update.Module, r.h.explaining(ctx, left, r.report(journal.Begin)))
	if errors.Is(err, kpatch.ErrStillInTransition) {
		var ended bool
		if ended, err = r.h.late(ctx, r.update.Module, left, r.opt.deadline()); ended {
			enabled, err = false, nil
		}
	}
	if err != nil {
		return err
	}
	if enabled {
		return fmt.Errorf("livepatch %s was enabled again by someone else while it was being taken back", r.update.Module)
	}
	r.result.Transition = time.Since(begin)
	return nil
}

// unload is the last step and never fails for the module's sake: the update is
// back already, and what is in the way now may be gone at the next look.
func (r *rollback) unload(ctx context.Context) error {
	err := r.h.unload(ctx, r.update.Module, r.update.Manifest.Escapes)
	if err == nil {
		err = r.h.Store.Remove(r.update.Module)
	}
	if err != nil {
		r.result.Resident = err.Error()
		if e, ok := refuse.As(err); ok {
			r.result.Resident = e.Detail
		}
	}
	return nil
}
