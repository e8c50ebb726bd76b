// SPDX-License-Identifier: Apache-2.0

package update

import (
	"context"
	"time"

	"github.com/lupatch/lupatch/kpatch"
	"github.com/lupatch/lupatch/versions"
)

// States of an update in a Status.
const (
	// StateApplied: every task runs it.
	StateApplied = "applied"
	// StateApplying and StateReversing: tasks still move to it, or out of it.
	StateApplying  = "applying"
	StateReversing = "reversing"
	// StateStuck: on its way back it waits for tasks beyond the deadline, or with no
	// lupatch to wait with it; recovery finishes that.
	StateStuck = "stuck"
	// StateProbation: every task runs it, and a lupatch still watches it.
	StateProbation = "on probation"
	// StateResident: taken back, its module is still in memory.
	StateResident = "resident"
)

// Status is what a person wants to know of a host. All of it is what the kernel
// says, except the times, which are the journal's.
type Status struct {
	Release string `json:"release"`
	// Units are those that an update changes, with their present versions.
	Units []UnitStatus `json:"units"`
	// Updates in force, the newest first.
	Updates []UpdateStatus `json:"updates"`
	// Drivers are those that were replaced whole.
	Drivers []DriverStatus `json:"drivers,omitempty"`
	// Foreign are livepatches that lupatch did not load.
	Foreign []kpatch.Livepatch `json:"foreign"`
	// Resident are modules left in memory by rollbacks: disabled and harmless.
	Resident []UpdateStatus `json:"resident"`
	// Transition is the one that is going on, with the tasks it waits for.
	Transition *kpatch.Progress `json:"transition,omitempty"`
	// Missing says of updates what they stand on and the kernel does not run.
	Missing []string `json:"missing,omitempty"`
	// Open are changes that have not ended, see Host.Recover. AfterBoot names the
	// updates that the next boot of this kernel applies again, the oldest first, and
	// Barred says which it does not, and why. All three are the journal's.
	Open      []Recovered       `json:"open,omitempty"`
	AfterBoot []string          `json:"after_boot"`
	Barred    map[string]string `json:"barred,omitempty"`
	// Forced are updates that were forced upon tasks: a reboot is owed.
	Forced []Forced `json:"forced,omitempty"`
	// Damaged names stored updates that cannot be read, with the reason.
	Damaged map[string]string `json:"damaged,omitempty"`
	// Taint are the kernel's taint flags that are set.
	Taint []kpatch.TaintFlag `json:"taint"`
	// RebootOwed says why this host should be booted anew; empty if it need not.
	RebootOwed []string `json:"reboot_owed"`
}

// UnitStatus is one unit.
type UnitStatus struct {
	Unit    string `json:"unit"`
	Version int    `json:"version"`
	// BuildID of the running binary; empty while the module is not loaded.
	BuildID string `json:"build_id,omitempty"`
}

// UpdateStatus is one update; of its units those that it changes.
type UpdateStatus struct {
	Update     string `json:"update"`
	Module     string `json:"module"`
	Generation int    `json:"generation"`
	State      string `json:"state"`
	// Since is when it was applied, by the journal; zero if that does not say.
	Since   time.Time `json:"since,omitzero"`
	Subject string    `json:"subject,omitempty"`
	CVE     []string  `json:"cve,omitempty"`
	Units   []Changed `json:"units"`
}

// Changed is what an update does to one unit.
type Changed struct {
	Unit    string `json:"unit"`
	Version int    `json:"version"`
	// Waiting is set while the module it changes is not loaded.
	Waiting bool `json:"waiting,omitempty"`
	// Contested names foreign livepatches that replace one of the functions, too.
	Contested []string `json:"contested,omitempty"`
	Functions []string `json:"functions"`
}

// Status reads the status of the host. Stacks of blocking tasks need
// CAP_SYS_ADMIN; the rest needs read access to the store.
func (h *Host) Status(ctx context.Context) (*Status, error) {
	state, err := h.State(ctx)
	if err != nil {
		return nil, err
	}
	out := &Status{Release: state.Release, Units: []UnitStatus{}, Updates: []UpdateStatus{}, Foreign: []kpatch.Livepatch{}, Resident: []UpdateStatus{}}
	out.Foreign = append(out.Foreign, state.Foreign...)
	out.Missing = state.Missing()
	if out.Drivers, err = h.drivers(); err != nil {
		return nil, err
	}
	mem := out.remember(h)
	out.Forced = h.allForced()
	out.health(h.Kernel)
	for i := range state.Updates {
		u := &state.Updates[i]
		d := describe(*u, mem.since)
		for k := range d.Units {
			d.Units[k].Contested = state.Contested(u, d.Units[k].Unit)
		}
		out.Updates = append(out.Updates, d)
	}
	for _, u := range state.Resident {
		out.Resident = append(out.Resident, describe(u, nil))
	}
	for _, unit := range state.Units() {
		id, err := h.Kernel.UnitBuildID(unit)
		if err != nil {
			id = "" // not loaded
		}
		out.Units = append(out.Units, UnitStatus{unit, state.Version(unit), id})
	}
	for name, err := range state.Damaged {
		if out.Damaged == nil {
			out.Damaged = make(map[string]string)
		}
		out.Damaged[name] = err.Error()
	}
	list := state.Foreign
	for _, u := range state.Updates {
		list = append(list, *u.Livepatch)
	}
	for _, p := range list {
		if !p.Transition {
			continue
		}
		if out.Transition, err = h.Kernel.Blockers(ctx, p.Name); err != nil {
			return nil, err
		}
		h.explain(ctx, state, out.Transition)
	}
	out.refine(mem, h.atWork())
	return out, nil
}

func describe(u versions.Update, since map[string]time.Time) UpdateStatus {
	s := UpdateStatus{Update: u.Manifest.Name, Module: u.Module, State: StateResident, Since: since[u.Module],
		Subject: u.Manifest.Source.Subject, CVE: u.Manifest.Source.CVE, Units: []Changed{}}
	_, s.Generation = kpatch.Generation(u.Module)
	patched := make(map[string]bool)
	if p := u.Livepatch; p != nil {
		switch {
		case p.Transition && p.Enabled:
			s.State = StateApplying
		case p.Transition:
			s.State = StateReversing
		case p.Enabled:
			s.State = StateApplied
		}
		for _, o := range p.Objects {
			patched[o.Name] = o.Patched
		}
	}
	for _, mu := range u.Manifest.Units {
		c := Changed{Unit: mu.Name, Version: mu.Gives, Waiting: u.Livepatch != nil && !patched[mu.Name], Functions: []string{}}
		for _, f := range mu.Functions {
			c.Functions = append(c.Functions, f.Name)
		}
		s.Units = append(s.Units, c)
	}
	return s
}
