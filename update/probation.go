// SPDX-License-Identifier: Apache-2.0

package update

import (
	"context"

	"github.com/lupatch/lupatch/internal/manifest"
	"github.com/lupatch/lupatch/probation"
)

// watched adds probation to the steps of an apply: the host is watched from before
// the first update is loaded, what is seen ends a transition early, and a last step
// watches for Options.Probation.For more. All updates of the change share it. The
// health checks are run once here; one that fails is refused.
//
// A change that is interrupted on probation (SIGINT, SIGTERM) is taken back, as it is
// in every step before; one whose lupatch dies is taken back by recovery, as nobody
// watched it.
func (h *Host) watched(ctx context.Context, steps []Step, list []*livepatch, opt *Options) ([]Step, *probation.Watch, error) {
	if err := opt.Probation.Healthy(ctx); err != nil {
		return nil, nil, err
	}
	w := probation.Open(h.Kernel, opt.Probation)
	loads := 0
	for i := range steps {
		switch s := &steps[i]; s.Name {
		case loadingStep:
			s.Do = loadWatched(w, list[loads], s.Do)
			loads++
		case transitionStep:
			s.Do = waitWatched(w, s.Do)
		}
	}
	last := list[len(list)-1]
	module := func() string { return last.module }
	do := func(ctx context.Context) error {
		out, err := w.Run(ctx)
		last.result.Probation = out
		return err
	}
	steps = append(steps, Step{Name: probationStep, Update: last.manifest.Name, BuildID: last.buildID, Module: module, Do: do})
	return steps, w, nil
}

const transitionStep = "transition"

// loadWatched names the update to the watch before it is loaded.
func loadWatched(w *probation.Watch, l *livepatch, do func(context.Context) error) func(context.Context) error {
	return func(ctx context.Context) error {
		if f := w.Look(); f != nil {
			return f
		}
		w.Add(subject(l.manifest, l.module))
		return do(ctx)
	}
}

// waitWatched ends the wait for tasks when the update is at fault already.
func waitWatched(w *probation.Watch, do func(context.Context) error) func(context.Context) error {
	return func(ctx context.Context) error {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		go func() {
			select {
			case <-w.Failed():
				cancel()
			case <-ctx.Done():
			}
		}()
		err := do(ctx)
		if f := w.Failure(); f != nil && err != nil {
			return f
		}
		return err
	}
}

// subject is what the watch has to know of an update.
func subject(m *manifest.Manifest, module string) probation.Update {
	u := probation.Update{Name: m.Name, Module: module}
	for _, mu := range m.Units {
		unit := probation.Unit{Name: mu.Name}
		for _, f := range mu.Functions {
			unit.Functions = append(unit.Functions, f.Name)
		}
		u.Units = append(u.Units, unit)
	}
	return u
}
