// SPDX-License-Identifier: Apache-2.0

package quiesce

import (
	"context"
	"fmt"
	"time"

	"github.com/lupatch/lupatch/kpatch"
)

// Watch follows one transition: Explain says why tasks remain in it, and moves
// those along that a visit can move.
type Watch struct {
	// Kernel is the one in transition, Functions are those that it leaves.
	Kernel    *kpatch.Kernel
	Functions []Function

	observer *Observer
	seen     map[int]int           // CPU → the task that ran there at the last look
	visits   map[int]chan struct{} // CPU → closed when the last visit has ended
}

// visitTimeout bounds a visit to a CPU: on one that a real-time task keeps for
// itself this process does not get a turn.
const visitTimeout = 200 * time.Millisecond

// Explain fills in, for the tasks that remain, why they do and what they are
// doing. What it looks with is in the kernel only while it looks, and not when
// the transition ends. The first look reads the kernel's symbols.
//
// Of what could move a task only one thing is done that no program can notice: a
// thread of lupatch lets itself be scheduled for a moment on a CPU where one task
// runs in user mode without ever being interrupted (nohz_full). That task enters
// the kernel to make room, and moves on its way out. Its own affinity, priority
// and signals stay as they are, whatever happens to lupatch meanwhile. Sleeping
// tasks get a signal that they do not notice from the kernel itself, after 15
// seconds.
func (w *Watch) Explain(ctx context.Context, p *kpatch.Progress) error {
	if len(p.Remaining) == 0 {
		return nil
	}
	if w.observer == nil {
		var err error
		if w.observer, err = Open(w.Kernel, w.Functions); err != nil {
			return err
		}
	}
	o := w.observer
	defer o.Close()
	list, err := o.read(ctx)
	if err != nil {
		return err
	}
	byTID := make(map[int]*Task, len(list))
	for i := range list {
		byTID[list[i].TID] = &list[i]
	}
	ran := map[int]int{}
	for i := range p.Remaining {
		r := &p.Remaining[i]
		t := byTID[r.TID]
		if t == nil {
			continue
		}
		r.Why = o.why(t, p.Enabling)
		if t.State == Running {
			ran[t.CPU] = t.TID
			if (o.nohz[t.CPU] || w.seen[t.CPU] == t.TID) && w.visit(t.CPU) {
				p.Nudged = append(p.Nudged, t.TID)
			}
		} else if len(t.Stack) > 0 {
			r.Stack = t.Stack
		}
	}
	w.seen = ran
	return nil
}

// why says in a few words what keeps a task from moving.
func (o *Observer) why(t *Task, enabling bool) string {
	b, inside := o.blocker(t)
	if !inside || b.Hidden {
		o.name(t)
	}
	who := ""
	if t.Kthread {
		who = "kthread, "
	}
	switch {
	case inside && !b.Hidden:
		code := "old"
		if !enabling {
			code = "new"
		}
		s := fmt.Sprintf("%s%s in the %s %s", who, t.State, code, b.Function)
		if t.State == Uninterruptible {
			s += ", no signal wakes it"
		}
		return s
	case t.State == Running && o.nohz[t.CPU]:
		return fmt.Sprintf("%srunning on CPU %d, which has no timer tick (nohz_full)", who, t.CPU)
	case t.State == Running:
		return fmt.Sprintf("%srunning on CPU %d", who, t.CPU)
	case t.cut, len(t.frames) == 0 && t.State != Ended:
		return who + t.State + ", its stack cannot be read"
	}
	// The kernel looks once a second.
	return who + t.State + " outside, it moves at the kernel's next look"
}

// visit lets a thread of this process run on cpu for a moment. It is waited for
// only so long, and not followed by another one before it has ended: a CPU that
// is taken for good is none that a visit helps.
func (w *Watch) visit(cpu int) (begun bool) {
	if last := w.visits[cpu]; last != nil {
		select {
		case <-last:
		default:
			return false
		}
	}
	done := make(chan struct{})
	if w.visits == nil {
		w.visits = map[int]chan struct{}{}
	}
	w.visits[cpu] = done
	go func() {
		defer close(done)
		// A CPU that may not be used (a cpuset) is left alone.
		_ = w.Kernel.Sys.OnCPU(cpu, func() {})
	}()
	select {
	case <-done:
	case <-time.After(visitTimeout):
	}
	return true
}
