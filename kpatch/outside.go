// SPDX-License-Identifier: Apache-2.0

package kpatch

import (
	"context"
	"fmt"

	"github.com/lupatch/lupatch/internal/refuse"
)

// sight is what is known of one thread's place.
type sight int

const (
	outside sight = iota // it is not in the module's text
	inside
	unseen // it was running, or its stack could not be unwound to its end
)

// awaitOutside makes sure that no task is in the text of module, and refuses
// with UnloadUnsafe otherwise.
//
// Nothing leads into a disabled livepatch any more, so a task seen outside stays
// outside, and one look at each is enough, at whatever time. A stack can be read
// only of a task that does not run: one that does is looked at from the CPU it
// runs on, where it then cannot be running. A child of a task inside begins at
// ret_from_fork and is outside. Two passes are made because a thread that calls
// execve takes the id of its leader and may so hide from one pass; it cannot do
// so twice, as execve leaves the text.
func (k *Kernel) awaitOutside(ctx context.Context, module string) error {
	for range 2 {
		pending, err := k.threads()
		if err != nil {
			return err
		}
		err = waitFor(ctx, func() (bool, error) {
			var left []threadID
			for _, t := range pending {
				if err := ctx.Err(); err != nil {
					return false, err
				}
				s, err := k.look(t, module)
				if err != nil {
					return false, err
				}
				switch s {
				case inside:
					return false, refuse.New(refuse.UnloadUnsafe, module, "a task is in its code: %s", k.task(t))
				case unseen:
					left = append(left, t)
				}
			}
			pending = left
			return len(pending) == 0, nil
		})
		if err != nil && ctx.Err() != nil && len(pending) > 0 {
			return refuse.New(refuse.UnloadUnsafe, module, "it cannot be told whether these tasks are in its code: %s", k.names(pending))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (k *Kernel) names(list []threadID) string {
	var tasks []Task
	for _, t := range list {
		tasks = append(tasks, k.task(t))
	}
	return Names(tasks)
}

// look sees where a thread is.
func (k *Kernel) look(t threadID, module string) (sight, error) {
	s, err := k.glance(t, module)
	if err != nil || s != unseen {
		return s, err
	}
	_, cpu, err := k.stat(t)
	if gone(err) {
		return outside, nil
	}
	if err != nil {
		return unseen, fmt.Errorf("reading the CPU of task %s: %w", t.tid, err)
	}
	var inner error
	// A CPU that went offline, or that this process may not use (a cpuset),
	// leaves the thread unseen; the next round finds it elsewhere, or not.
	if k.Sys.OnCPU(cpu, func() { s, inner = k.glance(t, module) }) != nil {
		return unseen, nil
	}
	return s, inner
}

func (k *Kernel) glance(t threadID, module string) (sight, error) {
	stack, err := k.stack(t)
	if gone(err) {
		// A thread that is there but shows no stack belongs to a kernel without
		// CONFIG_STACKTRACE.
		if _, _, serr := k.stat(t); gone(serr) {
			return outside, nil
		}
		return unseen, nil
	}
	if denied(err) {
		return unseen, refuse.New(refuse.NotPermitted, t.tid, "reading the stack of a task was denied")
	}
	if err != nil {
		return unseen, fmt.Errorf("reading the stack of task %s: %w", t.tid, err)
	}
	for _, f := range stack {
		if f.Module == module {
			return inside, nil
		}
	}
	if wholeStack(stack) {
		return outside, nil
	}
	state, _, err := k.stat(t)
	// A dead task has given its stack back, or is about to and returns nowhere.
	if gone(err) || err == nil && (state == 'Z' || state == 'X') {
		return outside, nil
	}
	return unseen, nil
}
