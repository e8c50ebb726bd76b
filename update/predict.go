// SPDX-License-Identifier: Apache-2.0

package update

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/lupatch/lupatch/internal/journal"
	"github.com/lupatch/lupatch/internal/manifest"
	"github.com/lupatch/lupatch/internal/refuse"
	"github.com/lupatch/lupatch/kpatch"
	"github.com/lupatch/lupatch/quiesce"
	"github.com/lupatch/lupatch/versions"
)

// predictedStep comes right before loading: what it sees is as near to what the
// kernel will find as can be.
const predictedStep = "predicted"

// leaving lists the functions that the tasks leave when m is applied: of each the
// version that is in force, which the newest update on its unit gives.
func leaving(state *versions.State, m *manifest.Manifest) []quiesce.Function {
	var out []quiesce.Function
	for i := range m.Units {
		u := &m.Units[i]
		chain := state.Chain(u.Name)
		for _, f := range u.Functions {
			if f.New {
				continue
			}
			fn := quiesce.Function{Unit: u.Name, Name: f.Name, Sympos: f.Sympos}
			for _, below := range chain {
				if replaced(below.Manifest, u.Name, f) {
					fn.Module = below.Module
				}
			}
			out = append(out, fn)
		}
	}
	return out
}

// entered lists the functions of an update, which tasks leave when module is taken
// back.
func entered(m *manifest.Manifest, module string) []quiesce.Function {
	var out []quiesce.Function
	for _, u := range m.Units {
		for _, f := range u.Functions {
			if !f.New {
				out = append(out, quiesce.Function{Unit: u.Name, Name: f.Name, Module: module})
			}
		}
	}
	return out
}

func replaced(m *manifest.Manifest, unit string, f manifest.Function) bool {
	for _, u := range m.Units {
		for _, g := range u.Functions {
			// 0 and 1 are both the first.
			if u.Name == unit && !g.New && g.Name == f.Name && max(g.Sympos, 1) == max(f.Sympos, 1) {
				return true
			}
		}
	}
	return false
}

// predict looks who is in the way. That it cannot be seen is no reason not to
// apply, except where a quiet moment is to be waited for.
func (l *livepatch) predict(ctx context.Context) error {
	err := l.look(ctx)
	if _, refused := refuse.As(err); err == nil || ctx.Err() != nil || refused && l.opt.WaitQuiet > 0 {
		return err
	}
	if l.opt.WaitQuiet > 0 {
		return fmt.Errorf("looking for a quiet moment: %w", err)
	}
	logrus.Debugf("nothing is predicted: %v", err)
	l.result.Unpredicted = err.Error()
	return nil
}

func (l *livepatch) look(ctx context.Context) error {
	state, err := l.h.State(ctx)
	if err != nil {
		return err
	}
	l.leaving = leaving(state, l.manifest)
	o, err := quiesce.Open(l.h.Kernel, l.leaving)
	if err != nil {
		return err
	}
	defer o.Close()
	if l.opt.WaitQuiet <= 0 {
		l.result.Predicted, err = o.Pass(ctx)
		return err
	}
	limited, cancel := context.WithTimeout(ctx, l.opt.WaitQuiet)
	defer cancel()
	var shown time.Time
	p, err := o.WaitQuiet(limited, func(p *quiesce.Pass) {
		if time.Since(shown) >= time.Second {
			shown = time.Now()
			l.opt.report(Event{Update: l.manifest.Name, Step: predictedStep, State: journal.Begin, Blockers: p.Blockers})
		}
	})
	if err != nil && errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil && p != nil {
		return refuse.New(refuse.NeverQuiet, l.manifest.Name, "in %s there was no moment without a task in what it replaces; last seen: %s", l.opt.WaitQuiet, someBlockers(p.Blockers))
	}
	l.result.Predicted = p
	return err
}

func someBlockers(list []quiesce.Blocker) string {
	var tasks []kpatch.Task
	for _, b := range list {
		tasks = append(tasks, kpatch.Task{Comm: b.Comm, TID: b.TID, Why: "in " + b.Frame})
	}
	return kpatch.Names(tasks)
}

// explainAfter is how long a transition runs before it is looked into why: most
// have ended by then, and a look costs some processor time.
const explainAfter = time.Second

// explain adds to a transition why tasks remain in it, if it is one of lupatch's.
func (h *Host) explain(ctx context.Context, state *versions.State, p *kpatch.Progress) {
	if p == nil {
		return
	}
	w := &quiesce.Watch{Kernel: h.Kernel}
	for _, u := range state.Updates {
		if u.Module == p.Livepatch && p.Enabling {
			w.Functions = leaving(state.Without(u.Module), u.Manifest)
		} else if u.Module == p.Livepatch {
			w.Functions = entered(u.Manifest, u.Module)
		}
	}
	if err := w.Explain(ctx, p); err != nil {
		logrus.Debugf("%v", err)
	}
}

// explaining adds to reports of a transition why tasks remain in it, and moves
// those along that it can. left are the functions that it leaves.
func (h *Host) explaining(ctx context.Context, left []quiesce.Function, report func(kpatch.Progress)) func(kpatch.Progress) {
	begin, w := time.Now(), &quiesce.Watch{Kernel: h.Kernel, Functions: left}
	return func(p kpatch.Progress) {
		if time.Since(begin) >= explainAfter {
			if err := w.Explain(ctx, &p); err != nil {
				logrus.Debugf("%v", err)
			}
		}
		report(p)
	}
}
