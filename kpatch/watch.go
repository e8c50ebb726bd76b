// SPDX-License-Identifier: Apache-2.0

package kpatch

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
)

const (
	// pollInterval is how often a state of the kernel is read that it notifies
	// nobody of. The attribute transition is one: nothing in kernel/livepatch
	// calls sysfs_notify, so poll(2) on it never returns. Most transitions end
	// within a few of the kernel's own rounds of one second; a tenth of it
	// costs nothing and adds no delay anyone sees.
	pollInterval = 100 * time.Millisecond
	// scanInterval is how often the remaining tasks are read while a transition
	// runs: the kernel itself tries them again once a second
	// (klp_transition_work_fn, kernel/livepatch/transition.c).
	scanInterval = time.Second
)

func newTicker() *time.Ticker { return time.NewTicker(pollInterval) }

// Progress is the state of a transition.
type Progress struct {
	// Livepatch is its module's name, Enabling which way it goes.
	Livepatch string `json:"livepatch"`
	Enabling  bool   `json:"enabling"`
	// Tasks is the number of all threads, Remaining lists those that have not
	// moved. The idle tasks of the CPUs are not in procfs and may remain alone.
	Tasks     int    `json:"tasks"`
	Remaining []Task `json:"remaining"`
	// Nudged are the threads that something was done for to let them move.
	Nudged []int `json:"nudged,omitempty"`
}

// ErrStillInTransition is in the chain of the error of Wait if its context
// ended first.
var ErrStillInTransition = errors.New("still in transition")

// Wait waits until the livepatch name is not in transition, and says whether it
// is enabled then; one that vanished is not. progress, if not nil, is called
// about once a second with the tasks that remain. When ctx ends first the error
// has ErrStillInTransition and ctx's error in its chain.
func (k *Kernel) Wait(ctx context.Context, name string, progress func(Progress)) (enabled bool, err error) {
	var scanned time.Time
	err = waitFor(ctx, func() (bool, error) {
		p, err := k.Livepatch(name)
		if gone(err) {
			enabled = false
			return true, nil
		}
		if err != nil {
			return false, err
		}
		enabled = p.Enabled
		if !p.Transition {
			// A disabled livepatch vanishes a moment after its transition
			// (klp_free_patch_async): it is over when it has.
			return p.Enabled, nil
		}
		if progress != nil && time.Since(scanned) >= scanInterval {
			scanned = time.Now()
			now, err := k.Blockers(ctx, name)
			if err != nil {
				return false, err
			}
			if now != nil {
				progress(*now)
			}
		}
		return false, nil
	})
	if err != nil && ctx.Err() != nil {
		err = fmt.Errorf("waiting for livepatch %s, which is %w: %w", name, ErrStillInTransition, ctx.Err())
	}
	return enabled, err
}

// Blockers lists the tasks that have not moved in the transition of name; nil
// if there is no transition. It needs CAP_SYS_ADMIN to see stacks.
func (k *Kernel) Blockers(ctx context.Context, name string) (*Progress, error) {
	p, err := k.Livepatch(name)
	if gone(err) || err == nil && !p.Transition {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	target := stateUnpatched
	if p.Enabled {
		target = statePatched
	}
	list, err := k.threads()
	if err != nil {
		return nil, err
	}
	now := &Progress{Livepatch: name, Enabling: p.Enabled, Tasks: len(list), Remaining: []Task{}}
	for _, t := range list {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		s, err := k.patchState(t)
		if gone(err) || err == nil && (s == target || s == stateUndefined) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("reading the patch state of %s: %w", t.tid, err)
		}
		now.Remaining = append(now.Remaining, k.task(t))
	}
	return now, nil
}

// Names joins the tasks for a message, with the number of those left out.
func Names(tasks []Task) string {
	const shown = 5
	var s []string
	for _, t := range tasks[:min(len(tasks), shown)] {
		s = append(s, t.String())
	}
	if n := len(tasks) - shown; n > 0 {
		s = append(s, fmt.Sprintf("%d more", n))
	}
	return strings.Join(s, ", ")
}
