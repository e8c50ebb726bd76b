// SPDX-License-Identifier: Apache-2.0

package update

import (
	"context"
	"fmt"
	"time"

	"github.com/lupatch/lupatch/internal/manifest"
	"github.com/lupatch/lupatch/internal/refuse"
	"github.com/lupatch/lupatch/quiesce"
	"github.com/lupatch/lupatch/versions"
)

// Expectation is what an apply is expected to come to.
type Expectation string

const (
	// AtOnce: no task is in the way.
	AtOnce Expectation = "at-once"
	// Waits: tasks are in the way, and leave by themselves or when the kernel
	// signals them.
	Waits Expectation = "waits"
	// Never: a task is in the way that does not leave; the apply would be reversed
	// at its deadline.
	Never Expectation = "never"
	// WouldRefuse: the update's own check would fail, because of a kprobe.
	WouldRefuse Expectation = "refused"
	// Unknown: tasks cannot be looked at.
	Unknown Expectation = "unknown"
)

// Plan is what is known of an apply before anything is done.
type Plan struct {
	Release string        `json:"release"`
	Units   []PlannedUnit `json:"units"`
	// Review are points of the updates that a person should look at.
	Review []string `json:"review,omitempty"`
	// Pass is the last look at all tasks; Blockers in it are who is in the way at
	// that moment. Unseen says why there was none.
	Pass   *quiesce.Pass `json:"pass,omitempty"`
	Unseen string        `json:"unseen,omitempty"`
	// Busy are functions in which tasks were seen at all.
	Busy []quiesce.Habit `json:"busy,omitempty"`
	// Hooks are others' hooks at the functions; Unlooked says what could not be
	// looked at.
	Hooks    []quiesce.Conflict `json:"hooks,omitempty"`
	Unlooked []string           `json:"unlooked,omitempty"`
	// PanicOn are settings of this kernel that turn a fault into a panic, against which
	// probation cannot help.
	PanicOn []string `json:"panic_on,omitempty"`
	// Expected is what it all comes to, Because says why.
	Expected Expectation `json:"expected"`
	Because  []string    `json:"because,omitempty"`
}

// PlannedUnit is what one update does to one unit.
type PlannedUnit struct {
	Update string `json:"update"`
	Unit   string `json:"unit"`
	// Has is the version the unit will have when the update's turn comes; Needs
	// and Gives are the update's.
	Has   int `json:"has"`
	Needs int `json:"needs"`
	Gives int `json:"gives"`
	// Waiting is set while the module is not loaded: it is changed when it comes.
	Waiting   bool              `json:"waiting,omitempty"`
	Functions []PlannedFunction `json:"functions"`
}

// PlannedFunction is one that is replaced.
type PlannedFunction struct {
	Name   string          `json:"function"`
	Effect manifest.Effect `json:"effect"`
	// Module is the livepatch that replaces it at present.
	Module string `json:"module,omitempty"`
}

// PlanOptions say how long tasks are watched.
type PlanOptions struct {
	// Looks is how many passes over all tasks are made, Interval the time between
	// them. Zero means 10 in two seconds: a task that was in a function at all of
	// them most likely lives there.
	Looks    int
	Interval time.Duration
}

// Plan says what Apply would meet. It refuses what Apply would refuse. Nothing is
// written and nothing stays loaded; tasks are looked at as package quiesce does,
// which needs root.
func (h *Host) Plan(ctx context.Context, files []string, opt PlanOptions) (*Plan, error) {
	if err := h.Kernel.SeesAllTasks(); err != nil {
		return nil, err
	}
	var list []*livepatch
	for _, file := range files {
		l, err := h.open(file, &Options{DryRun: true})
		if err != nil {
			return nil, err
		}
		list = append(list, l)
	}
	if err := h.checkAll(ctx, list); err != nil {
		return nil, err
	}
	past, err := h.settledHistory()
	if err != nil {
		return nil, err
	}
	if err := h.checkBars(past, list); err != nil {
		return nil, err
	}
	state, err := h.State(ctx)
	if err != nil {
		return nil, err
	}
	p := &Plan{Release: state.Release, PanicOn: h.Kernel.PanicSettings()}
	var left []quiesce.Function
	ours := map[string]bool{}
	for _, l := range list {
		if err := p.units(h, state, l.manifest); err != nil {
			return nil, err
		}
		for _, f := range leaving(state, l.manifest) {
			// What one of these very updates brings nobody can be in yet.
			if !ours[f.Module] || f.Module == "" {
				left = append(left, f)
			}
		}
		for _, r := range l.manifest.Review {
			p.Review = append(p.Review, l.manifest.Name+": "+r)
		}
		state, ours[l.manifest.Name] = state.With(l.manifest, l.buildID), true
	}
	if err := p.look(ctx, h, left, opt); err != nil {
		return nil, err
	}
	p.conclude()
	return p, nil
}

func (p *Plan) units(h *Host, state *versions.State, m *manifest.Manifest) error {
	now := map[string]string{}
	for _, f := range leaving(state, m) {
		now[f.Unit+" "+f.Name] = f.Module
	}
	for _, u := range m.Units {
		pu := PlannedUnit{Update: m.Name, Unit: u.Name, Has: state.Version(u.Name), Needs: u.Needs, Gives: u.Gives, Functions: []PlannedFunction{}}
		if u.Name != versions.Vmlinux {
			loaded, err := h.Kernel.Loaded(u.Name)
			if err != nil {
				return err
			}
			pu.Waiting = !loaded
		}
		for _, f := range u.Functions {
			if !f.New {
				pu.Functions = append(pu.Functions, PlannedFunction{f.Name, f.Effect, now[u.Name+" "+f.Name]})
			}
		}
		p.Units = append(p.Units, pu)
	}
	return nil
}

func (p *Plan) look(ctx context.Context, h *Host, left []quiesce.Function, opt PlanOptions) error {
	if opt.Looks <= 0 {
		opt.Looks, opt.Interval = 10, 200*time.Millisecond
	}
	o, err := quiesce.Open(h.Kernel, left)
	if err != nil {
		return err
	}
	defer o.Close()
	p.Hooks, p.Unlooked = o.Conflicts()
	p.Busy, p.Pass, err = o.Habits(ctx, opt.Looks, opt.Interval)
	if err == nil || ctx.Err() != nil {
		return err
	}
	p.Unseen = err.Error()
	if e, ok := refuse.As(err); ok {
		p.Unseen = e.Detail
	}
	return nil
}

// conclude says what it all comes to. The worst that was found counts.
func (p *Plan) conclude() {
	for _, c := range p.Hooks {
		if c.Blocks {
			p.Expected = WouldRefuse
			p.Because = append(p.Because, fmt.Sprintf("%s of %s: %s", c.Function, c.Unit, c.Detail))
		}
	}
	if p.Expected != "" {
		return
	}
	if p.Pass == nil {
		p.Expected, p.Because = Unknown, []string{p.Unseen}
		return
	}
	for _, b := range p.Busy {
		for _, t := range b.Forever() {
			p.Expected = Never
			p.Because = append(p.Because, fmt.Sprintf("%s: it was there at each of %d looks", t, b.Looks))
		}
	}
	if p.Expected != "" {
		return
	}
	p.Expected = AtOnce
	for _, b := range p.Pass.Seen() {
		p.Expected = Waits
		p.Because = append(p.Because, b.String())
	}
	if p.Expected == Waits {
		return
	}
	for _, b := range p.Busy {
		p.Because = append(p.Because, fmt.Sprintf("tasks pass through %s of %s: seen at %d of %d looks", b.Name, b.Unit, b.Busy, b.Looks))
		p.Expected = Waits
	}
}
