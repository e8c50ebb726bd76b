// SPDX-License-Identifier: Apache-2.0

package update

import (
	"time"

	"github.com/sirupsen/logrus"

	"github.com/lupatch/lupatch/internal/journal"
)

// memory is what the journal says of updates that are in the kernel.
type memory struct {
	// since is when each module was loaded last.
	since map[string]time.Time
	// probation and stuck name the updates of open changes that are on probation, or
	// that could not be taken back.
	probation, stuck map[string]bool
}

// remember fills in what the journal says. A journal that cannot be read costs that,
// not the status.
func (s *Status) remember(h *Host) memory {
	s.AfterBoot = []string{}
	m := memory{map[string]time.Time{}, map[string]bool{}, map[string]bool{}}
	records, err := journal.Read(h.journalPath())
	if err != nil {
		logrus.Warnf("%v", err)
	}
	for _, r := range records {
		if (r.Kind == string(KindApply) || r.Kind == string(KindReapply)) && r.Step == loadingStep && r.State == journal.Done {
			m.since[r.Module] = r.Time
		}
	}
	boot, err := h.Kernel.BootID()
	if err != nil {
		logrus.Warnf("%v", err)
	}
	list := history(records)
	barred := bars(list, boot)
	for _, u := range installed(list, s.Release) {
		s.AfterBoot = append(s.AfterBoot, u.name)
	}
	for _, p := range list {
		if p.open() {
			s.Open = append(s.Open, Recovered{Change: p.id, Kind: p.kind, Updates: p.names})
			m.open(p)
		}
		for _, u := range p.updates {
			if why := barred[u.buildID]; why != "" {
				if s.Barred == nil {
					s.Barred = make(map[string]string)
				}
				s.Barred[u.name] = why
			}
		}
	}
	return m
}

// open notes how far a change that is open has come.
func (m *memory) open(p *past) {
	watched := false
	for _, u := range p.updates {
		watched = watched || u.steps[probationStep] == journal.Begin
		for _, s := range u.steps {
			if s == journal.Stuck {
				m.stuck[u.name] = true
			}
		}
	}
	for _, name := range p.names {
		if watched {
			m.probation[name] = true
		}
	}
}

// refine tells states apart for which the kernel has one word.
func (s *Status) refine(m memory, atWork bool) {
	for i := range s.Updates {
		u := &s.Updates[i]
		switch {
		case u.State == StateReversing && (!atWork || m.stuck[u.Update]):
			u.State = StateStuck
		case u.State == StateApplied && atWork && m.probation[u.Update]:
			u.State = StateProbation
		}
	}
	for i := range s.Open {
		s.Open[i].AtWork = atWork
	}
}
