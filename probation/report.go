// SPDX-License-Identifier: Apache-2.0

package probation

import (
	"fmt"
	"strings"
	"time"

	"github.com/lupatch/lupatch/kpatch"
)

// Kind is what a report is about.
type Kind string

// The kinds of reports. Names are stable: they are in the JSON.
const (
	Warning        Kind = "warning"
	Bug            Kind = "bug"
	Oops           Kind = "oops"
	Protection     Kind = "protection-fault"
	ListCorruption Kind = "list-corruption"
	Refcount       Kind = "refcount"
	SoftLockup     Kind = "soft-lockup"
	HardLockup     Kind = "hard-lockup"
	WorkLockup     Kind = "workqueue-lockup"
	Stall          Kind = "rcu-stall"
	HungTask       Kind = "hung-task"
	Atomic         Kind = "atomic-context"
	Lockdep        Kind = "lockdep"
	Sanitizer      Kind = "sanitizer"
	BadPage        Kind = "bad-page"
	Slab           Kind = "slab"
	Panic          Kind = "panic"
	// Uncounted: the kernel's counters of Oopses and warnings grew by more than
	// was read.
	Uncounted Kind = "unread"
)

var words = map[Kind]string{
	Warning: "a warning", Bug: "a BUG", Oops: "an Oops", Protection: "a general protection fault", ListCorruption: "a corrupted list",
	Refcount: "a broken reference count", SoftLockup: "a soft lockup", HardLockup: "a hard lockup", WorkLockup: "a workqueue lockup",
	Stall: "an RCU stall", HungTask: "a hung task", Atomic: "sleep in atomic context", Lockdep: "a locking error", Sanitizer: "an error found by a sanitizer",
	BadPage: "a bad page", Slab: "a corrupted slab", Panic: "a panic", Uncounted: "faults that could not be read",
}

// Where a report comes from.
const (
	FromLog   = "kmsg"         // /dev/kmsg
	FromTrace = "error_report" // the tracepoint error_report_end
	FromTasks = "tasks"        // the look at tasks in uninterruptible sleep
	FromCount = "counters"     // /sys/kernel/oops_count and warn_count
)

// Report is one thing that the kernel complains of, or that was seen without it.
type Report struct {
	Kind   Kind   `json:"kind"`
	Source string `json:"source"`
	// Uptime is the kernel's own time of the first line.
	Uptime time.Duration `json:"uptime_ns"`
	// Title is the line that says what it is, Message what the code that warns
	// has to say about it.
	Title   string `json:"title"`
	Message string `json:"message,omitempty"`
	// Comm and PID are those of the task it happened in; CPU where.
	Comm string `json:"comm,omitempty"`
	PID  int    `json:"pid,omitempty"`
	CPU  int    `json:"cpu"`
	// Function is where it happened (RIP), Stack what led there, innermost first.
	Function *Frame  `json:"function,omitempty"`
	Stack    []Frame `json:"stack,omitempty"`
	// Mixed is set if lines of another report may be among those of this one.
	Mixed bool `json:"mixed,omitempty"`
	// Blame says which updates it is attributed to; none if it is not.
	Blame []Blame `json:"blame,omitempty"`
	// Times is how often the same was seen.
	Times int `json:"times"`
	// Lines are the kernel's own.
	Lines []string `json:"lines"`
}

// Frame is one function of a stack.
type Frame struct {
	kpatch.Frame
	// Unreliable is a frame that the kernel shows with "?": an address that was
	// found on the stack and need not belong to the chain of calls.
	Unreliable bool `json:"unreliable,omitempty"`
	// Interrupted is a frame of what an interrupt has interrupted: it did not
	// call what follows.
	Interrupted bool `json:"interrupted,omitempty"`
}

// Blame is the attribution of a report to one update.
type Blame struct {
	Update string `json:"update"`
	// Why is one sentence that names the frame.
	Why string `json:"why"`
}

// String is one line: what, where, who.
func (r *Report) String() string {
	s := words[r.Kind]
	if f := r.place(); f != nil {
		s += " in " + f.String()
	}
	if r.Comm != "" {
		s += fmt.Sprintf(" (task %s, %d)", r.Comm, r.PID)
	}
	text := r.Title
	if r.Message != "" {
		text = r.Message
	}
	if text != "" {
		s += ": " + text
	}
	return strings.Join(strings.Fields(s), " ")
}

// place is the function it happened in: for want of one the innermost of the
// stack that does not belong to the scheduler or to the report itself.
func (r *Report) place() *Frame {
	if r.Function != nil {
		return r.Function
	}
	for i := range r.Stack {
		if f := &r.Stack[i]; !f.Unreliable && !strings.HasPrefix(strings.TrimLeft(f.Function, "_"), "schedule") && !strings.HasPrefix(f.Function, "dump_stack") {
			return f
		}
	}
	return nil
}

// same says whether two reports tell of the same thing.
func (r *Report) same(o *Report) bool {
	if r.Kind != o.Kind || r.Source != o.Source || len(r.Blame) != len(o.Blame) {
		return false
	}
	if r.Function == nil || o.Function == nil {
		return r.Function == o.Function && r.Title == o.Title && r.PID == o.PID
	}
	return *r.Function == *o.Function
}
