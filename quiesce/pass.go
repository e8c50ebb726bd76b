// SPDX-License-Identifier: Apache-2.0

package quiesce

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/lupatch/lupatch/kpatch"
)

// Blocker is a task inside a function.
type Blocker struct {
	Task
	// Unit and Function are what it is in, Frame the place.
	Unit     string `json:"unit"`
	Function string `json:"function"`
	Frame    string `json:"frame"`
	// Hidden says that the kernel's check does not see it there: the place is in
	// a part that the compiler has split off, or behind the last instruction.
	// The transition will not wait for it.
	Hidden bool `json:"hidden,omitempty"`
}

// String is "comm (tid) in FRAME", with what is known of its state.
func (b Blocker) String() string {
	s := fmt.Sprintf("%s (%d) in %s", b.Comm, b.TID, b.Frame)
	if b.Kthread {
		s = "kthread " + s
	}
	if b.State == Uninterruptible {
		s += ", which no signal wakes"
	}
	return s
}

// Pass is what one look at all tasks found.
type Pass struct {
	// Way and Why are those of the Observer.
	Way string `json:"way"`
	Why string `json:"why,omitempty"`
	// Took is the time of the pass alone.
	Took time.Duration `json:"took_ns"`
	// Tasks is the number of threads seen.
	Tasks int `json:"tasks"`
	// Blockers are the tasks inside the functions.
	Blockers []Blocker `json:"blockers"`
	// Running are tasks that were on a CPU, the reader not among them: where they
	// are is not known. They move when they leave the kernel.
	Running []kpatch.Task `json:"running,omitempty"`
	// Unreadable are tasks that did not run and whose stack was cut off.
	Unreadable []kpatch.Task `json:"unreadable,omitempty"`
	// Partial says why tasks may be missing; empty if none is, but for idle
	// tasks, which no pass sees.
	Partial string `json:"partial,omitempty"`
	// Blind lists functions of the scheduler's section: frames in them are not
	// shown to anybody.
	Blind []Function `json:"blind,omitempty"`
}

// Seen are the blockers that the kernel's check will find too.
func (p *Pass) Seen() []Blocker {
	var out []Blocker
	for _, b := range p.Blockers {
		if !b.Hidden {
			out = append(out, b)
		}
	}
	return out
}

// Pass looks at every task once.
func (o *Observer) Pass(ctx context.Context) (*Pass, error) {
	begin := time.Now()
	list, err := o.read(ctx)
	if err != nil {
		return nil, err
	}
	p := &Pass{Way: o.Way, Why: o.Why, Took: time.Since(begin), Tasks: len(list), Blockers: []Blocker{}, Blind: o.blind, Partial: o.partial()}
	for i := range list {
		t := &list[i]
		if t.reader || t.State == Ended {
			continue
		}
		switch b, ok := o.blocker(t); {
		case ok:
			p.Blockers = append(p.Blockers, b)
		case t.State == Running:
			if t.PID != os.Getpid() || o.kernel.Root != "" {
				p.Running = append(p.Running, t.Task)
			}
		case t.cut:
			o.name(t)
			p.Unreadable = append(p.Unreadable, t.Task)
		}
	}
	return p, nil
}

// blocker finds the innermost frame of a task in one of the functions, and takes
// one that the kernel sees before one that it does not.
func (o *Observer) blocker(t *Task) (b Blocker, ok bool) {
	for i := range t.frames {
		f := &t.frames[i]
		s, hidden := o.hit(f, i == 0)
		if s == nil || ok && (hidden || !b.Hidden) {
			continue
		}
		if !ok {
			o.name(t)
		}
		b, ok = Blocker{Task: *t, Unit: s.fn.Unit, Function: s.fn.Name, Frame: f.String(), Hidden: hidden}, true
	}
	return b, ok
}

// initialPIDNamespace is the inode of the first process namespace
// (PROC_PID_INIT_INO, include/linux/proc_ns.h).
const initialPIDNamespace = "pid:[4026531836]"

func (o *Observer) partial() string {
	if ns, err := os.Readlink(o.kernel.Path("/proc/self/ns/pid")); err == nil && ns != initialPIDNamespace {
		return "this process is in a pid namespace and sees only the tasks in it"
	}
	return ""
}
