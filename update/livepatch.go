// SPDX-License-Identifier: Apache-2.0

package update

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/lupatch/lupatch/internal/journal"
	"github.com/lupatch/lupatch/internal/manifest"
	"github.com/lupatch/lupatch/internal/refuse"
	"github.com/lupatch/lupatch/kpatch"
	"github.com/lupatch/lupatch/probation"
	"github.com/lupatch/lupatch/quiesce"
	"github.com/lupatch/lupatch/versions"
)

// Result says what became of one update.
type Result struct {
	Update string `json:"update"`
	// Module is the name it is, or was, loaded under; empty in a dry run.
	Module string `json:"module,omitempty"`
	// Manifest of the update.
	Manifest *manifest.Manifest `json:"-"`
	// Transition is how long tasks were waited for.
	Transition time.Duration `json:"transition_ns,omitempty"`
	// Predicted is what the last pass before the load saw; Unpredicted says why
	// there was none.
	Predicted   *quiesce.Pass `json:"predicted,omitempty"`
	Unpredicted string        `json:"unpredicted,omitempty"`
	// Forced is set if the transition was forced: the host owes a reboot.
	Forced *Forced `json:"forced,omitempty"`
	// Resident says why the module stayed in memory after a rollback; empty if
	// it did not.
	Resident string `json:"resident,omitempty"`
	// Warnings are about its signatures, or say what a new driver did not take.
	Warnings []string `json:"warnings,omitempty"`
	// Devices, of a driver's replacement, are those whose driver it is.
	Devices []Outage `json:"devices,omitempty"`
	// Probation is what was seen while the whole change was on probation; it is in
	// the result of the last update.
	Probation *probation.Outcome `json:"probation,omitempty"`
}

// livepatch is the application of one update.
type livepatch struct {
	h        *Host
	opt      *Options
	image    []byte
	verdict  *Verdict
	manifest *manifest.Manifest
	buildID  string
	module   string
	// kept is set if a committed update of before this boot is stored as module.
	kept   bool
	result *Result
	// leaving are the functions that tasks leave when it is applied.
	leaving []quiesce.Function
	// note writes to the journal what a step is about to do, beside its beginning.
	note func(step, detail string) error
}

func (l *livepatch) steps() []Step {
	step := func(name string, do, undo func(context.Context) error) Step {
		return Step{Name: name, Update: l.manifest.Name, BuildID: l.buildID, Module: func() string { return l.module }, Do: do, Undo: undo}
	}
	return []Step{
		step("checked", l.check, nil),
		step("staged", l.stage, l.unstage),
		step(predictedStep, l.predict, nil),
		step("loading", l.load, l.takeBack),
		step("transition", l.wait, nil),
	}
}

func (l *livepatch) check(ctx context.Context) error {
	state, err := l.h.State(ctx)
	if err != nil {
		return err
	}
	return state.Check(l.manifest, l.buildID)
}

// stage finds the name to load the module under and puts its file in the store.
// Copies that an earlier rollback left in memory are unloaded if that has become
// safe, else the update becomes a further generation of them.
func (l *livepatch) stage(ctx context.Context) error {
	state, err := l.h.State(ctx)
	if err != nil {
		return err
	}
	for generation := 1; ; generation++ {
		l.module = kpatch.GenerationName(l.manifest.Name, generation)
		loaded, err := l.h.Kernel.Loaded(l.module)
		if err != nil {
			return err
		}
		if !loaded {
			break
		}
		if err := l.clear(ctx, state, l.module); err == nil {
			break
		} else if e, ok := refuse.As(err); !ok || e.ID != refuse.UnloadUnsafe {
			return err
		}
	}
	if l.module != l.manifest.Name {
		if err := l.renamable(); err != nil {
			return err
		}
		// The name is tried here, before anything is done.
		if _, err := kpatch.Renamed(l.image, l.module); err != nil {
			return err
		}
	}
	l.result.Module = l.module
	if kept, err := l.h.Store.Get(l.module); err == nil {
		l.kept = kept.BuildID == l.buildID
	}
	return l.h.Store.PutSigned(l.module, l.image, l.verdict.minisig)
}

// clear unloads a resident module of lupatch's.
func (l *livepatch) clear(ctx context.Context, state *versions.State, module string) error {
	for _, u := range state.Resident {
		if u.Module != module {
			continue
		}
		if err := l.h.unload(ctx, module, u.Manifest.Escapes); err != nil {
			return err
		}
		return l.h.Store.Remove(module)
	}
	return refuse.New(refuse.LoadRefused, l.manifest.Name, "a module named %s is in memory that is not lupatch's", module)
}

// unstage keeps the file of a module that could not be unloaded: without it the
// module would be nobody's. It also keeps one that is to be applied at boot.
func (l *livepatch) unstage(context.Context) error {
	if loaded, err := l.h.Kernel.Loaded(l.module); err != nil || loaded || l.kept {
		return err
	}
	return l.h.Store.Remove(l.module)
}

func (l *livepatch) load(ctx context.Context) error {
	image := l.image
	if l.module != l.manifest.Name {
		var err error
		if image, err = kpatch.Renamed(image, l.module); err != nil {
			return err
		}
	}
	if err := l.h.Kernel.Load(ctx, image, ""); err != nil {
		return err
	}
	err := l.compare()
	if err != nil {
		// A step that fails has had no effect.
		limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), shortestReversal)
		defer cancel()
		if uerr := l.takeBack(limited); uerr != nil {
			return &UndoError{Cause: err, Undo: uerr, Step: loadingStep, Name: l.manifest.Name}
		}
	}
	return err
}

// compare holds what the kernel got against what the manifest says: versions and
// conflicts were judged by that.
func (l *livepatch) compare() error {
	p, err := l.h.Kernel.Livepatch(l.module)
	if err != nil {
		return err
	}
	told, got := map[string]bool{}, map[string]bool{}
	for _, u := range l.manifest.Units {
		for _, f := range u.Functions {
			if !f.New {
				told[fmt.Sprintf("%s of %s", f.Name, u.Name)] = true
			}
		}
	}
	for _, o := range p.Objects {
		for _, f := range o.Functions {
			got[fmt.Sprintf("%s of %s", f.Name, o.Name)] = true
		}
	}
	for _, name := range slices.Sorted(maps.Keys(told)) {
		if !got[name] {
			return refuse.New(refuse.NotAnUpdate, l.manifest.Name, "its manifest says that it replaces %s, and the module does not", name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(got)) {
		if !told[name] {
			return refuse.New(refuse.NotAnUpdate, l.manifest.Name, "it replaces %s, of which its manifest says nothing", name)
		}
	}
	return nil
}

func (l *livepatch) takeBack(ctx context.Context) error {
	back := entered(l.manifest, l.module)
	return l.h.takeBack(ctx, l.module, l.manifest.Escapes, back, l.h.explaining(ctx, back, l.report("loading", journal.Undo)))
}

// takeBack disables a livepatch, in whatever state it is, and unloads it if that
// is safe. entered are its functions.
func (h *Host) takeBack(ctx context.Context, module string, escapes []string, entered []quiesce.Function, progress func(kpatch.Progress)) error {
	err := h.Kernel.Disable(ctx, module)
	if e, ok := refuse.As(err); ok && e.ID == refuse.NotApplied {
		err = nil
	}
	if err != nil {
		return err
	}
	if enabled, err := h.Kernel.Wait(ctx, module, progress); err != nil {
		return h.waits(ctx, module, entered, err)
	} else if enabled {
		return fmt.Errorf("livepatch %s was enabled again by someone else", module)
	}
	err = h.unload(ctx, module, escapes)
	if e, ok := refuse.As(err); ok && (e.ID == refuse.UnloadUnsafe || e.ID == refuse.NotApplied) {
		if e.ID == refuse.UnloadUnsafe {
			logrus.Warnf("the module %s stays in memory, disabled: %s", module, e.Detail)
		}
		return nil
	}
	return err
}

func (l *livepatch) report(step string, state journal.State) func(kpatch.Progress) {
	return func(p kpatch.Progress) {
		l.opt.report(Event{Update: l.manifest.Name, Step: step, State: state, Transition: &p})
	}
}

func (l *livepatch) wait(ctx context.Context) error {
	begin := time.Now()
	limited, cancel := context.WithTimeout(ctx, l.opt.deadline())
	defer cancel()
	enabled, err := l.h.Kernel.Wait(limited, l.module, l.h.explaining(ctx, l.leaving, l.report("transition", journal.Begin)))
	switch {
	case errors.Is(err, kpatch.ErrStillInTransition) && l.opt.Force && ctx.Err() == nil:
		enabled, err = l.force(ctx)
	case errors.Is(err, kpatch.ErrStillInTransition):
		var late bool
		if late, err = l.h.late(ctx, l.module, l.leaving, l.opt.deadline()); late {
			enabled, err = true, nil
		}
	}
	if err != nil {
		return err
	}
	if !enabled {
		return fmt.Errorf("livepatch %s was disabled by someone else while it was being applied", l.module)
	}
	l.result.Transition = time.Since(begin)
	return nil
}
