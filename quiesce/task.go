// SPDX-License-Identifier: Apache-2.0

package quiesce

import (
	"context"
	"fmt"
	"os"
	"slices"

	"github.com/lupatch/lupatch/bpf"
	"github.com/lupatch/lupatch/kpatch"
)

// States of a task.
const (
	// Running: on a CPU at the moment it was looked at. Where in the kernel it
	// is, or whether it is in the kernel at all, cannot be seen.
	Running = "running"
	// Runnable: waits for a CPU.
	Runnable = "runnable"
	// Sleeping: the signal that the kernel sends in a transition wakes it, if it is
	// no kthread.
	Sleeping = "sleeping"
	// Uninterruptible: that signal does not (D, I and T of ps(1)).
	Uninterruptible = "uninterruptible"
	// Ended: it has left its stack for good.
	Ended = "ended"
)

// Task is a thread at the moment a pass came by.
type Task struct {
	kpatch.Task
	State   string `json:"state"`
	Kthread bool   `json:"kthread,omitempty"`
	CPU     int    `json:"cpu"`

	patchState int
	frames     []frame
	cut        bool
	// reader is set for the thread that looks: what it is in while it looks it will
	// have left when an update is loaded.
	reader bool
}

// frame is a place on a stack. With procfs addr is 0.
type frame struct {
	addr uint64
	place
}

// place is an address as the kernel prints it.
type place struct {
	function, module string
	offset, size     uint64
}

func (p place) String() string {
	s := fmt.Sprintf("%s+%#x", p.function, p.offset)
	if p.module != "" {
		s += " [" + p.module + "]"
	}
	return s
}

func (o *Observer) fromBPF(b *bpf.Task) Task {
	t := Task{Task: kpatch.Task{PID: b.PID, TID: b.TID, Comm: b.Comm}, Kthread: b.Kthread(), CPU: b.CPU, patchState: b.PatchState}
	switch {
	case b.Ended():
		t.State = Ended
	case b.OnCPU:
		t.State = Running
	case b.State == 0:
		t.State = Runnable
	case b.Uninterruptible():
		t.State = Uninterruptible
	default:
		t.State = Sleeping
	}
	t.cut = len(b.Stack) >= bpf.StackMax
	// Of others that run there is no stack.
	t.reader = b.OnCPU && len(b.Stack) > 0
	for _, a := range b.Stack {
		t.frames = append(t.frames, frame{addr: a})
	}
	return t
}

// name finds out what the addresses on a task's stack are called, which is worth
// it only for tasks that are shown.
func (o *Observer) name(t *Task) {
	t.Stack = nil
	for i := range t.frames {
		f := &t.frames[i]
		if f.addr != 0 && o.symbols != nil {
			if s, off, ok := o.symbols.containing(f.addr); ok {
				f.place = place{function: s.Name, module: s.Module, offset: off}
			}
		}
		t.Stack = append(t.Stack, kpatch.Frame{Function: f.function, Module: f.module})
	}
}

func (o *Observer) readProcfs(ctx context.Context) ([]Task, error) {
	var out []Task
	err := o.kernel.Threads(ctx, func(th kpatch.Thread) {
		t := Task{Task: kpatch.Task{PID: th.PID, TID: th.TID, Comm: th.Comm}, Kthread: th.Kthread, CPU: th.CPU, patchState: th.PatchState, cut: th.Cut}
		for _, f := range th.Places {
			t.frames = append(t.frames, frame{place: place{f.Function, f.Module, f.Offset, f.Size}})
		}
		switch th.State {
		case 'R':
			t.State = Runnable
			if len(th.Places) == 0 {
				t.State = Running
			}
			t.reader = th.PID == os.Getpid() && o.kernel.Root == ""
		case 'S':
			t.State = Sleeping
		case 'Z', 'X':
			t.State = Ended
		default:
			t.State = Uninterruptible
		}
		out = append(out, t)
	})
	return slices.Clip(out), err
}
