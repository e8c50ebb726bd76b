// SPDX-License-Identifier: Apache-2.0

package probation

import (
	"context"
	"fmt"
	"time"

	"github.com/lupatch/lupatch/kpatch"
)

// hungMin is the shortest uninterruptible sleep that counts, whatever the
// probation: a slow disk keeps a task for seconds.
const hungMin = 5 * time.Second

// sleep is one uninterruptible sleep of a thread.
type sleep struct {
	tid      int
	switches uint64
}

// hung follows tasks in uninterruptible sleep.
type hung struct {
	before map[sleep]bool // those from before the update
	since  map[sleep]time.Time
	tasks  map[sleep]kpatch.Blocked
}

func key(b kpatch.Blocked) sleep { return sleep{b.TID, b.Switches} }

func (h *hung) baseline(ctx context.Context, k *kpatch.Kernel) {
	h.before = map[sleep]bool{}
	list, err := k.Blocked(ctx)
	if err != nil {
		return // every one counts as new, and has still to be in the update
	}
	for _, b := range list {
		h.before[key(b)] = true
	}
}

// look notes which sleeps are there, and since when they have been.
func (h *hung) look(list []kpatch.Blocked, now time.Time) {
	since, tasks := map[sleep]time.Time{}, map[sleep]kpatch.Blocked{}
	for _, b := range list {
		k := key(b)
		if h.before[k] {
			continue
		}
		since[k], tasks[k] = now, b
		if t, ok := h.since[k]; ok {
			since[k] = t
		}
	}
	h.since, h.tasks = since, tasks
}

// report gives those that have slept for at least d without having run.
func (h *hung) report(now time.Time, d time.Duration) (list []*Report) {
	for k, b := range h.tasks {
		slept := now.Sub(h.since[k])
		if slept < d {
			continue
		}
		r := &Report{Kind: HungTask, Source: FromTasks, CPU: -1, Times: 1, Comm: b.Comm, PID: b.TID,
			Title: fmt.Sprintf("for %s it has been in uninterruptible sleep", slept.Round(time.Second))}
		for _, f := range b.Stack {
			r.Stack = append(r.Stack, Frame{Frame: f})
			r.Lines = append(r.Lines, f.String())
		}
		list = append(list, r)
	}
	return list
}

func (w *Watch) lookAtTasks(ctx context.Context) {
	list, err := w.k.Blocked(ctx)
	if err != nil {
		return
	}
	w.hung.look(list, time.Now())
}

// lastLookAtTasks reports tasks that sleep in an update without interruption
// since the first half of the probation. The kernel itself reports such tasks
// after 120 s, and none after an Oops. Those elsewhere are not reported: they
// wait for what they always wait for.
func (w *Watch) lastLookAtTasks(ctx context.Context) {
	w.lookAtTasks(ctx)
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, r := range w.hung.report(time.Now(), max(w.opt.For/2, hungMin)) {
		attribute(r, w.updates)
		if len(r.Blame) > 0 {
			r.Blame = nil
			w.take(r)
		}
	}
}
