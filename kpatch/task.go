// SPDX-License-Identifier: Apache-2.0

package kpatch

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
)

// Task is a thread as procfs shows it.
type Task struct {
	PID  int    `json:"pid"`
	TID  int    `json:"tid"`
	Comm string `json:"comm"`
	// Stack is what is known of its kernel stack, innermost first; empty while
	// it runs.
	Stack []Frame `json:"stack,omitempty"`
	// Why it remains in a transition, in a few words, where that was found out.
	Why string `json:"why,omitempty"`
}

// String is "comm (pid)" with the innermost functions and why it remains.
func (t Task) String() string {
	s := fmt.Sprintf("%s (%d)", t.Comm, t.TID)
	if len(t.Stack) > 0 {
		var fn []string
		for _, f := range t.Stack[:min(len(t.Stack), 3)] {
			fn = append(fn, f.String())
		}
		s += " in " + strings.Join(fn, " < ")
	}
	if t.Why != "" {
		s += ": " + t.Why
	}
	return s
}

// Frame is one function on a stack.
type Frame struct {
	Function string `json:"function"`
	// Module is empty for vmlinux.
	Module string `json:"module,omitempty"`
}

// String is the function's name and the module in brackets.
func (f Frame) String() string {
	if f.Module == "" {
		return f.Function
	}
	return f.Function + " [" + f.Module + "]"
}

// patchState is a task's state in a transition (include/linux/livepatch.h).
type patchState int

const (
	stateUndefined patchState = -1 // no transition
	stateUnpatched patchState = 0
	statePatched   patchState = 1
)

// threadID names a thread in procfs.
type threadID struct{ pid, tid string }

func (t threadID) file(k *Kernel, name string) string {
	return k.Path("/proc", t.pid, "task", t.tid, name)
}

// threads lists every thread. One that ends meanwhile may be missing.
func (k *Kernel) threads() ([]threadID, error) {
	pids, err := numbers(k.Path("/proc"))
	if err != nil {
		return nil, fmt.Errorf("listing tasks: %w", err)
	}
	var list []threadID
	for _, pid := range pids {
		tids, err := numbers(k.Path("/proc", pid, "task"))
		if gone(err) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("listing threads of %s: %w", pid, err)
		}
		for _, tid := range tids {
			list = append(list, threadID{pid, tid})
		}
	}
	return list, nil
}

func numbers(dir string) ([]string, error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	names, err := d.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	var list []string
	for _, n := range names {
		if n[0] >= '0' && n[0] <= '9' {
			list = append(list, n)
		}
	}
	return list, nil
}

func (k *Kernel) patchState(t threadID) (patchState, error) {
	b, err := os.ReadFile(t.file(k, "patch_state"))
	if err != nil {
		return 0, err
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(b)))
	return patchState(n), err
}

// task reads what is shown of a thread; what cannot be read stays empty.
func (k *Kernel) task(t threadID) Task {
	out := Task{}
	out.PID, _ = strconv.Atoi(t.pid)
	out.TID, _ = strconv.Atoi(t.tid)
	if b, err := os.ReadFile(t.file(k, "comm")); err == nil {
		out.Comm = strings.TrimSpace(strings.ToValidUTF8(string(b), "?"))
	}
	out.Stack, _ = k.stack(t)
	return out
}

// stackMax is the number of frames at which procfs cuts a stack off
// (MAX_STACK_TRACE_DEPTH, fs/proc/base.c).
const stackMax = 64

func (k *Kernel) stack(t threadID) ([]Frame, error) {
	b, err := os.ReadFile(t.file(k, "stack"))
	if err != nil {
		return nil, err
	}
	return parseStack(string(b)), nil
}

// parseStack reads lines "[<0>] function+0x1/0x2 [module]".
func parseStack(text string) []Frame {
	var out []Frame
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) < 2 {
			continue
		}
		fr := Frame{Function: f[1]}
		fr.Function, _, _ = strings.Cut(fr.Function, "+")
		if len(f) > 2 && strings.HasPrefix(f[2], "[") {
			// With CONFIG_STACKTRACE_BUILD_ID a build id may follow the name.
			fr.Module, _, _ = strings.Cut(strings.Trim(f[2], "[]"), " ")
		}
		out = append(out, fr)
	}
	return out
}

// wholeStack says whether a stack reaches the place where a task enters the
// kernel or begins. One that does not was cut off, or could not be unwound, and
// proves nothing. The names are those of arch/x86/entry and of arm64's entry.S.
func wholeStack(s []Frame) bool {
	if len(s) == 0 || len(s) >= stackMax {
		return false
	}
	last := s[len(s)-1].Function
	for _, p := range []string{"entry_", "asm_", "ret_from_fork", "el0"} {
		if strings.HasPrefix(last, p) {
			return true
		}
	}
	return false
}

// stat gives a thread's state letter and the CPU it last ran on: fields 3 and 39
// of its stat file (proc(5)). The name in parentheses may hold anything.
func (k *Kernel) stat(t threadID) (state byte, cpu int, err error) {
	b, err := os.ReadFile(t.file(k, "stat"))
	if err != nil {
		return 0, 0, err
	}
	s := string(b)
	f := strings.Fields(s[strings.LastIndexByte(s, ')')+1:])
	const stateField, cpuField = 3 - 3, 39 - 3
	if len(f) <= cpuField || f[stateField] == "" {
		return 0, 0, errors.New("a stat file that cannot be read")
	}
	cpu, err = strconv.Atoi(f[cpuField])
	return f[stateField][0], cpu, err
}

func denied(err error) bool { return errors.Is(err, fs.ErrPermission) }
