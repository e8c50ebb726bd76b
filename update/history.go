// SPDX-License-Identifier: Apache-2.0

package update

import (
	"fmt"
	"slices"
	"strings"

	"github.com/lupatch/lupatch/internal/journal"
	"github.com/lupatch/lupatch/internal/refuse"
)

// past is a change as the journal tells it.
type past struct {
	id            string
	kind          Kind
	boot, release string
	names         []string
	// planned is how many steps there were to be.
	planned int
	updates []*pastUpdate
	// fault is set if probation has ended it.
	fault bool
	// ended is Committed or Aborted, or empty while the change is open.
	ended journal.State
}

// pastUpdate is an update of a change.
type pastUpdate struct {
	name, module, buildID string
	// steps has the last state of each step.
	steps map[string]journal.State
}

// history puts the records of each change together, in the order in which the
// changes began.
func history(records []journal.Record) (out []*past) {
	byID := map[string]*past{}
	for _, r := range records {
		p := byID[r.Change]
		if p == nil {
			p = &past{id: r.Change, kind: Kind(r.Kind), boot: r.Boot, release: r.Release, names: r.Updates, planned: r.Steps}
			byID[r.Change] = p
			out = append(out, p)
		}
		p.fault = p.fault || r.Fault
		if r.Step != "" {
			p.update(r).steps[r.Step] = r.State
		} else if r.State == journal.Committed || r.State == journal.Aborted {
			p.ended = r.State
		}
	}
	return out
}

func (p *past) update(r journal.Record) *pastUpdate {
	i := slices.IndexFunc(p.updates, func(u *pastUpdate) bool { return u.name == r.Update })
	if i < 0 {
		p.updates = append(p.updates, &pastUpdate{name: r.Update, steps: map[string]journal.State{}})
		i = len(p.updates) - 1
	}
	u := p.updates[i]
	if r.Module != "" {
		u.module = r.Module
	}
	if r.BuildID != "" {
		u.buildID = r.BuildID
	}
	return u
}

// open says that the change has neither been committed nor taken back.
func (p *past) open() bool { return p.ended == "" }

func (p *past) applies() bool { return p.kind == KindApply || p.kind == KindReapply }

// done says that nothing but the last word is missing.
func (p *past) done() bool {
	n := 0
	for _, u := range p.updates {
		for _, s := range u.steps {
			if s == journal.Done {
				n++
			}
		}
	}
	return n == p.planned
}

// undone says that its way back has begun.
func (p *past) undone() bool {
	for _, u := range p.updates {
		for _, s := range u.steps {
			if s == journal.Undo || s == journal.Undone || s == journal.Stuck || s == journal.Failed {
				return true
			}
		}
	}
	return false
}

// history reads the journal of the host.
func (h *Host) history() ([]*past, error) {
	records, err := journal.Read(h.journalPath())
	if err != nil {
		return nil, err
	}
	return history(records), nil
}

// settledHistory is the history, without a change that is open: that refuses.
func (h *Host) settledHistory() ([]*past, error) {
	list, err := h.history()
	if err != nil {
		return nil, err
	}
	for _, p := range list {
		if p.open() {
			return nil, refuse.New(refuse.Unfinished, strings.Join(p.names, ", "), "its %s was begun and has not ended", p.kind)
		}
	}
	return list, nil
}

// installed lists what is to be in force with a kernel release, the oldest first:
// what was committed and not taken back.
func installed(list []*past, release string) (out []*pastUpdate) {
	for _, p := range list {
		if p.ended != journal.Committed || p.release != release || !p.applies() && p.kind != KindRollback {
			continue
		}
		for _, u := range p.updates {
			out = slices.DeleteFunc(out, func(o *pastUpdate) bool { return o.name == u.name })
			if p.applies() {
				out = append(out, u)
			}
		}
	}
	return out
}

const (
	// barAfter is how many bad experiences bar an update.
	barAfter = 2
	// loadingStep is the step that counts for that, probationStep the one that others
	// can see a change in.
	loadingStep, probationStep = "loading", "probation"
)

// bars says, by build id, which updates are not to be applied and why: this host
// has rolled them back by probation, or has not stayed up with them, twice. The
// present boot is not over yet and does not count.
func bars(list []*past, present string) map[string]string {
	boots, faults, died := map[string]map[string]bool{}, map[string]int{}, map[string]bool{}
	for _, p := range list {
		switch p.kind {
		case KindSettled:
			for id := range boots {
				if boots[id][p.boot] {
					delete(boots, id)
				}
			}
		case KindUnbar:
			for _, u := range p.updates {
				if p.ended == journal.Committed {
					delete(boots, u.buildID)
					delete(faults, u.buildID)
					delete(died, u.buildID)
				}
			}
		case KindRollback:
			for _, u := range p.updates {
				if p.ended == journal.Committed {
					delete(boots[u.buildID], p.boot)
				}
			}
		case KindReapply:
			for _, u := range p.updates {
				if _, begun := u.steps[loadingStep]; begun && p.boot != present {
					if boots[u.buildID] == nil {
						boots[u.buildID] = map[string]bool{}
					}
					boots[u.buildID][p.boot] = true
				}
			}
		case KindDriver:
			for _, u := range p.updates {
				switch {
				case !p.fault || u.buildID == "":
				case u.steps[stepInitialise] == journal.Failed:
					died[u.buildID] = true
				default:
					faults[u.buildID]++
				}
			}
		case KindApply:
			if p.fault {
				for _, u := range p.updates {
					if u.buildID != "" {
						faults[u.buildID]++
					}
				}
			}
		}
	}
	out := map[string]string{}
	for id := range died {
		out[id] = "the kernel of this host died (Oops) in its probe"
	}
	for id, n := range faults {
		if n >= barAfter {
			out[id] = fmt.Sprintf("this host has rolled it back by probation %d times", n)
		}
	}
	for id, in := range boots {
		if len(in) >= barAfter {
			out[id] = fmt.Sprintf("%d boots of this host with it have not lasted %s", len(in), SettleTime)
		}
	}
	return out
}
