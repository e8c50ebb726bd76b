// SPDX-License-Identifier: Apache-2.0

package quiesce

import (
	"context"
	"fmt"
	"slices"
	"time"
)

const (
	// restAfter is how long a wait rests after a pass, as a multiple of what the
	// pass took: looking costs at most a tenth of one CPU, on any host. There is
	// nothing to be told by: a hook in the functions would be the second ftrace
	// user that slows every call of them.
	restAfter = 9
	// restMin and restMax bound the rest. Moments shorter than the first are
	// gone before an update is loaded.
	restMin = 10 * time.Millisecond
	restMax = 500 * time.Millisecond
)

// WaitQuiet makes passes until one finds no task in the functions, and gives
// that one. Tasks that run count as outside: they are seen when they sleep.
// report, if not nil, is called after each pass that found some. When ctx ends
// first the last pass is given with an error that has ctx's in its chain.
func (o *Observer) WaitQuiet(ctx context.Context, report func(*Pass)) (*Pass, error) {
	var last *Pass
	for {
		p, err := o.Pass(ctx)
		if err != nil && ctx.Err() != nil {
			return last, fmt.Errorf("waiting for a quiet moment: %w", err)
		}
		if err != nil {
			return nil, err
		}
		if len(p.Blockers) == 0 {
			return p, nil
		}
		last = p
		if report != nil {
			report(p)
		}
		t := time.NewTimer(min(max(restAfter*p.Took, restMin), restMax))
		select {
		case <-ctx.Done():
			t.Stop()
			return last, fmt.Errorf("waiting for a quiet moment: %w", ctx.Err())
		case <-t.C:
		}
	}
}

// Habit is what several passes found out about one function.
type Habit struct {
	Function
	// Looks is the number of passes, Busy that of those which saw a task in it.
	Looks int `json:"looks"`
	Busy  int `json:"busy"`
	// Always are tasks that were in it at every look, Sometimes the number of
	// others.
	Always    []Blocker `json:"always,omitempty"`
	Sometimes int       `json:"sometimes,omitempty"`
}

// Forever are those tasks of Always that the transition would wait for without
// end: nothing wakes them. A user task that sleeps interruptibly is sent a signal
// that it does not notice, after 15 seconds (SIGNALS_TIMEOUT, kernel/livepatch/
// transition.c). A kthread is woken, and goes to sleep again in its loop.
func (h *Habit) Forever() []Blocker {
	var out []Blocker
	for _, b := range h.Always {
		if !b.Hidden && (b.Kthread || b.State == Uninterruptible) {
			out = append(out, b)
		}
	}
	return out
}

// Habits makes passes for a while and tells functions that are always on some
// stack (a kthread's main loop, a poll that waits) from those that tasks pass
// through. It gives the functions that were seen at all, and the last pass.
func (o *Observer) Habits(ctx context.Context, looks int, interval time.Duration) ([]Habit, *Pass, error) {
	type key struct {
		unit, function string
	}
	type sighting struct {
		times int
		last  Blocker
	}
	var (
		order []key
		busy  = map[key]int{}
		who   = map[key]map[int]*sighting{}
		last  *Pass
	)
	for i := range looks {
		if i > 0 {
			select {
			case <-ctx.Done():
				return nil, nil, fmt.Errorf("watching functions: %w", ctx.Err())
			case <-time.After(interval):
			}
		}
		p, err := o.Pass(ctx)
		if err != nil {
			return nil, nil, err
		}
		last = p
		now := map[key]bool{}
		for _, b := range p.Blockers {
			k := key{b.Unit, b.Function}
			if who[k] == nil {
				order, who[k] = append(order, k), map[int]*sighting{}
			}
			if who[k][b.TID] == nil {
				who[k][b.TID] = &sighting{}
			}
			s := who[k][b.TID]
			s.times, s.last, now[k] = s.times+1, b, true
		}
		for k := range now {
			busy[k]++
		}
	}
	var out []Habit
	for _, k := range order {
		h := Habit{Function: Function{Unit: k.unit, Name: k.function}, Looks: looks, Busy: busy[k]}
		for _, s := range who[k] {
			if s.times == looks {
				h.Always = append(h.Always, s.last)
			} else {
				h.Sometimes++
			}
		}
		slices.SortFunc(h.Always, func(a, b Blocker) int { return a.TID - b.TID })
		out = append(out, h)
	}
	return out, last, nil
}
