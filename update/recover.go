// SPDX-License-Identifier: Apache-2.0

package update

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/lupatch/lupatch/internal/journal"
	"github.com/lupatch/lupatch/kpatch"
	"github.com/lupatch/lupatch/quiesce"
)

// Outcome is what became of a change that was open.
type Outcome string

const (
	// OutcomeCompleted: it is in force, or taken back, as was meant.
	OutcomeCompleted Outcome = "completed"
	// OutcomeUndone: nothing of it is left.
	OutcomeUndone Outcome = "undone"
)

// Recovered is a change that was open.
type Recovered struct {
	Change  string   `json:"change"`
	Kind    Kind     `json:"kind"`
	Updates []string `json:"updates"`
	// AtWork, in a status, says that some lupatch is at work, on this most likely.
	AtWork bool `json:"at_work,omitempty"`
	// Outcome is empty in a dry run.
	Outcome Outcome `json:"outcome,omitempty"`
	// Reason says why this and not the other.
	Reason string `json:"reason,omitempty"`
}

// recovery is the repair of one open change.
type recovery struct {
	h       *Host
	opt     *Options
	p       *past
	journal *journal.Journal
	list    []*past
	present string // boot id
}

// Recover ends changes that a crash of lupatch or of the host, or a reversal that
// waits for tasks, has left open: each is then entirely in force, or entirely taken
// back. The journal says what was meant, the kernel what there is. It needs root.
//
// A change of an earlier boot has no part in the kernel any more: an apply is undone,
// a rollback completed. One of this boot is completed if all of it was done and only
// the journal's last word is missing; an apply is else taken back, a rollback goes
// the way that its transition goes. An error is an *UndoError if a reversal still
// waits for tasks when Options.Deadline is over: the change stays open.
func (h *Host) Recover(ctx context.Context, opt Options) ([]Recovered, error) {
	out := []Recovered{}
	err := h.recovering(opt, func(list []*past, j *journal.Journal, boot string) error {
		for _, p := range slices.Backward(list) {
			if !p.open() {
				continue
			}
			done := Recovered{Change: p.id, Kind: p.kind, Updates: p.names}
			if !opt.DryRun {
				r := &recovery{h: h, opt: &opt, p: p, journal: j, list: list, present: boot}
				var err error
				if done.Outcome, done.Reason, err = r.run(ctx); err != nil {
					return err
				}
			}
			out = append(out, done)
		}
		if opt.DryRun {
			return nil
		}
		return h.sweep(list)
	})
	return out, err
}

// recovering calls f with the lock, the history and the open journal, which is nil in
// a dry run.
func (h *Host) recovering(opt Options, f func(list []*past, j *journal.Journal, boot string) error) error {
	if err := h.Kernel.SeesAllTasks(); err != nil {
		return err
	}
	if !opt.DryRun {
		unlock, err := h.lock()
		if err != nil {
			return err
		}
		defer unlock()
	}
	boot, err := h.Kernel.BootID()
	if err != nil {
		return err
	}
	var j *journal.Journal
	if !opt.DryRun {
		// Opening cuts off what a crash left of a line.
		if j, err = journal.Open(h.journalPath()); err != nil {
			return err
		}
		defer j.Close()
	}
	list, err := h.history()
	if err != nil {
		return err
	}
	return f(list, j, boot)
}

func (r *recovery) run(ctx context.Context) (Outcome, string, error) {
	switch {
	case r.p.kind == KindDriver || r.p.kind == KindDriverBack:
		return r.driver(ctx)
	case r.p.kind == KindRollback && len(r.p.updates) == 0:
		return r.end(OutcomeUndone, "it was interrupted before its first step")
	case r.p.kind == KindRollback && r.p.boot == r.present:
		return r.rollback(ctx)
	case r.p.kind == KindRollback && r.p.undone():
		return r.end(OutcomeUndone, "it was being given up, and the host has booted since")
	case r.p.kind == KindRollback:
		return r.end(OutcomeCompleted, "the host has booted since")
	case !r.p.applies():
		return r.end(OutcomeUndone, "it was one record that was not written")
	case r.p.boot != r.present:
		return r.end(OutcomeUndone, "the host has booted since")
	}
	return r.apply(ctx)
}

// end closes the change in the journal.
func (r *recovery) end(o Outcome, reason string) (Outcome, string, error) {
	state := journal.Committed
	if o == OutcomeUndone {
		state = journal.Aborted
	}
	err := r.note(journal.Record{Updates: r.p.names, State: state, Detail: "by recovery: " + reason})
	if err != nil {
		return "", "", err
	}
	r.p.ended = state
	return o, reason, nil
}

func (r *recovery) note(rec journal.Record) error {
	rec.Change, rec.Kind = r.p.id, string(r.p.kind)
	return appendRecord(r.journal, rec)
}

// apply completes an apply that was done, and takes back any other.
func (r *recovery) apply(ctx context.Context) (Outcome, string, error) {
	whole := r.p.done()
	for _, u := range r.p.updates {
		p, err := r.livepatch(u)
		if err != nil {
			return "", "", err
		}
		whole = whole && (u.module == "" || p != nil && p.Enabled && !p.Transition)
	}
	if whole {
		return r.end(OutcomeCompleted, "every step of it was done")
	}
	for _, u := range slices.Backward(r.p.updates) {
		if u.module == "" {
			continue // it was not loaded
		}
		if err := r.undo(ctx, u); err != nil {
			return "", "", err
		}
	}
	return r.end(OutcomeUndone, "it was interrupted before its end")
}

// undo takes one update of an apply back.
func (r *recovery) undo(ctx context.Context, u *pastUpdate) error {
	ours, err := r.ours(u)
	if err != nil || !ours {
		return err
	}
	var escapes []string
	var left []quiesce.Function
	stored, err := r.h.Store.Get(u.module)
	switch {
	case err == nil:
		escapes, left = stored.Manifest.Escapes, entered(stored.Manifest, u.module)
	default:
		// Without its manifest nobody knows who has its addresses.
		escapes = []string{"its copy in the store cannot be read"}
	}
	rec := journal.Record{Update: u.name, Module: u.module, BuildID: u.buildID, Step: loadingStep}
	note := func(state journal.State, detail string) error {
		rec.State, rec.Detail = state, detail
		r.opt.report(Event{Update: u.name, Step: loadingStep, State: state})
		return r.note(rec)
	}
	if err := note(journal.Undo, ""); err != nil {
		return err
	}
	limited, cancel := r.limited(ctx)
	defer cancel()
	if err := r.h.takeBack(limited, u.module, escapes, left, r.h.explaining(limited, left, r.progress(u, journal.Undo))); err != nil {
		return r.stuck(u, loadingStep, err)
	}
	return note(journal.Undone, "")
}

// limited is the time that a transition may take.
func (r *recovery) limited(ctx context.Context) (context.Context, context.CancelFunc) {
	if r.opt.Wait {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, r.opt.deadline())
}

func (r *recovery) progress(u *pastUpdate, state journal.State) func(kpatch.Progress) {
	return func(p kpatch.Progress) {
		r.opt.report(Event{Update: u.name, Step: "transition", State: state, Transition: &p})
	}
}

// stuck makes the error of an update that cannot be left yet.
func (r *recovery) stuck(u *pastUpdate, step string, err error) error {
	cause := fmt.Errorf("the %s of %s was interrupted", r.p.kind, u.name)
	nerr := r.note(journal.Record{Update: u.name, Module: u.module, BuildID: u.buildID, Step: step, State: journal.Stuck, Detail: err.Error()})
	return errors.Join(&UndoError{Cause: cause, Undo: err, Step: step, Name: u.name}, nerr)
}

// rollback follows the kernel: what is being disabled is disabled to the end, what is
// enabled stays.
func (r *recovery) rollback(ctx context.Context) (Outcome, string, error) {
	for _, u := range r.p.updates {
		ours, err := r.ours(u)
		if err != nil {
			return "", "", err
		}
		if !ours {
			continue
		}
		limited, cancel := r.limited(ctx)
		enabled, err := r.h.Kernel.Wait(limited, u.module, r.progress(u, journal.Begin))
		cancel()
		switch {
		case errors.Is(err, kpatch.ErrStillInTransition):
			return "", "", r.stuck(u, "transition", r.h.waits(ctx, u.module, nil, err))
		case err != nil:
			return "", "", err
		case enabled:
			return r.end(OutcomeUndone, "it is in force still, or again")
		}
		// What could not be unloaded stays, as after any rollback.
		if stored, err := r.h.Store.Get(u.module); err == nil {
			if err := r.h.unload(ctx, u.module, stored.Manifest.Escapes); err == nil {
				if err := r.h.Store.Remove(u.module); err != nil {
					return "", "", err
				}
			}
		}
	}
	return r.end(OutcomeCompleted, "its way out of the kernel had begun")
}

// livepatch is the one of an update, nil if it is not in the kernel.
func (r *recovery) livepatch(u *pastUpdate) (*kpatch.Livepatch, error) {
	ours, err := r.ours(u)
	if err != nil || !ours {
		return nil, err
	}
	p, err := r.h.Kernel.Livepatch(u.module)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return p, err
}

// ours says whether the module in memory is that of the update, not only of its name.
func (r *recovery) ours(u *pastUpdate) (bool, error) {
	if u.module == "" {
		return false, nil
	}
	loaded, err := r.h.Kernel.Loaded(u.module)
	if err != nil || !loaded {
		return false, err
	}
	id, err := r.h.Kernel.ModuleBuildID(u.module)
	return err == nil && id == u.buildID, err
}
