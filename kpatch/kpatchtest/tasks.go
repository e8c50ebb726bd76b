// SPDX-License-Identifier: Apache-2.0

package kpatchtest

import (
	"fmt"
	"os"
	"strings"
)

// Task is a process with one thread.
type Task struct {
	PID  int
	Comm string
	// Stack holds "function" or "function [module]", innermost first; none for
	// a task that is running on a CPU.
	Stack []string
	// Sticky keeps the task from moving to the new side of a transition: it
	// sleeps in a function that is being replaced.
	Sticky bool
	// State is the state letter; S if it is 0.
	State byte
	// Shown is the stack that is seen from the CPU of a running task.
	Shown []string
	// Switches is how often it has left a CPU.
	Switches int
}

// AddTask adds a task or replaces one.
func (k *Kernel) AddTask(t Task) {
	if t.State == 0 {
		t.State = 'S'
	}
	dir := fmt.Sprintf("/proc/%d/task/%d", t.PID, t.PID)
	k.write(dir+"/comm", t.Comm+"\n")
	k.write(dir+"/stack", stackText(t.Stack))
	k.write(dir+"/stat", fmt.Sprintf("%d (%s) %c %s0 0\n", t.PID, t.Comm, t.State, strings.Repeat("0 ", 35)))
	k.write(dir+"/status", fmt.Sprintf("Name:\t%s\nvoluntary_ctxt_switches:\t%d\nnonvoluntary_ctxt_switches:\t0\n", t.Comm, t.Switches))
	if !k.exists(dir + "/patch_state") {
		k.write(dir+"/patch_state", "-1\n")
	}
	sticky := fmt.Sprintf("/fake/sticky/%d", t.PID)
	os.Remove(k.path(sticky))
	if t.Sticky {
		k.write(sticky, "")
	}
	shown := fmt.Sprintf("/fake/shown/%d", t.PID)
	os.Remove(k.path(shown))
	if t.Shown != nil {
		k.write(shown, stackText(t.Shown))
	}
}

func stackText(stack []string) string {
	var b strings.Builder
	for _, f := range stack {
		name, module, _ := strings.Cut(f, " ")
		fmt.Fprintf(&b, "[<0>] %s+0x12/0x34", name)
		if module != "" {
			b.WriteString(" " + module)
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// Free lets a task go that was Sticky, and lets transitions end that waited for
// it.
func (k *Kernel) Free(pid int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	must(os.Remove(k.path(fmt.Sprintf("/fake/sticky/%d", pid))))
	k.advance()
}

// OnCPU shows, while f runs, the stacks of tasks that run on a CPU.
func (k *Kernel) OnCPU(cpu int, f func()) error {
	for _, pid := range k.pids() {
		if text := k.read("/fake/shown/" + pid); text != "" {
			file := "/proc/" + pid + "/task/" + pid + "/stack"
			k.write(file, text+"\n")
			defer k.write(file, "")
		}
	}
	f()
	return nil
}

func (k *Kernel) pids() []string {
	entries, err := os.ReadDir(k.path("/proc"))
	must(err)
	var out []string
	for _, e := range entries {
		if n := e.Name(); n[0] >= '0' && n[0] <= '9' {
			out = append(out, n)
		}
	}
	return out
}
