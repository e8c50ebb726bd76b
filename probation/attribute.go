// SPDX-License-Identifier: Apache-2.0

package probation

import (
	"fmt"
	"strings"

	"github.com/lupatch/lupatch/kpatch"
)

// vmlinux is the unit that is no module.
const vmlinux = "vmlinux"

// Update is what has to be known of an update to attribute faults to it.
type Update struct {
	Name string
	// Module is the name that its own module is loaded under.
	Module string
	Units  []Unit
}

// Unit is one that an update changes, with the functions it replaces.
type Unit struct {
	Name      string
	Functions []string
}

// owns says whether a frame belongs to the update, and why. Of vmlinux only the
// replaced functions do; of a module everything, as its parts work on the same
// state.
func (u *Update) owns(f kpatch.Frame) (why string, ok bool) {
	if f.Module == u.Module {
		return f.String() + " is code of the update", true
	}
	for _, unit := range u.Units {
		if unit.Name != f.Module && (unit.Name != vmlinux || f.Module != "") {
			continue
		}
		for _, name := range unit.Functions {
			if plain(f.Function) == name || f.Function == name {
				return f.String() + " is a function that the update replaces", true
			}
		}
		if unit.Name != vmlinux {
			return f.String() + " is in a unit that the update changes", true
		}
	}
	return "", false
}

// plain takes off what the compiler adds to the part of a function that it puts
// elsewhere.
func plain(function string) string { return strings.TrimSuffix(function, ".cold") }

// blame says whether a report is attributed to the update. What counts is the
// function it happened in and the chain of calls that led there, without what an
// interrupt has interrupted.
//
// A frame that the kernel marks with "?" is an address left on the stack, often
// by a call that has long returned. It counts only where the chain could not be
// followed to its beginning, and then only if it is the update's own code.
func (u *Update) blame(r *Report) *Blame {
	frames := r.Stack
	if r.Function != nil {
		frames = append([]Frame{*r.Function}, frames...)
	}
	for _, f := range frames {
		if f.Unreliable || f.Interrupted {
			continue
		}
		if why, ok := u.owns(f.Frame); ok {
			return &Blame{u.Name, why}
		}
	}
	if whole(frames) {
		return nil
	}
	for _, f := range frames {
		if f.Unreliable && !f.Interrupted && f.Module == u.Module {
			return &Blame{u.Name, fmt.Sprintf("%s is code of the update, on a stack that could not be followed", f.Frame)}
		}
	}
	return nil
}

// whole says whether the chain of calls reaches the place where a task or an
// interrupt enters the kernel, or where a thread begins (arch/x86/entry,
// arch/x86/kernel/head_64.S).
func whole(frames []Frame) bool {
	for _, f := range frames {
		if f.Unreliable {
			continue
		}
		for _, p := range []string{"entry_", "asm_", "ret_from_fork", "secondary_startup", "x86_64_start", "el0"} {
			if strings.HasPrefix(f.Function, p) {
				return true
			}
		}
	}
	return false
}

// attribute looks for every update that a report belongs to.
func attribute(r *Report, updates []Update) {
	for i := range updates {
		if b := updates[i].blame(r); b != nil {
			r.Blame = append(r.Blame, *b)
		}
	}
}
