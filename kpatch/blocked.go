// SPDX-License-Identifier: Apache-2.0

package kpatch

import (
	"context"
	"os"
	"strconv"
	"strings"
)

// Blocked is a task in uninterruptible sleep (state D).
type Blocked struct {
	Task
	// Switches is how often it has left a CPU, of itself or not. A task that
	// sleeps with the same number has not run in between.
	Switches uint64
}

// Blocked lists the threads in uninterruptible sleep with their stacks. It needs
// CAP_SYS_ADMIN for the stacks; a stack that cannot be read is empty. The kernel
// reports such tasks itself after 120 s (kernel.hung_task_timeout_secs), but not
// any more once something has died of an Oops (kernel/hung_task.c).
func (k *Kernel) Blocked(ctx context.Context) ([]Blocked, error) {
	list, err := k.threads()
	if err != nil {
		return nil, err
	}
	var out []Blocked
	for _, t := range list {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if state, _, err := k.stat(t); err != nil || state != 'D' {
			continue
		}
		// The count is read on both sides of the stack, so that they belong
		// together.
		before, err := k.switches(t)
		if err != nil {
			continue
		}
		b := Blocked{Task: k.task(t), Switches: before}
		if after, err := k.switches(t); err == nil && after == before {
			out = append(out, b)
		}
	}
	return out, nil
}

// switches adds voluntary_ctxt_switches and nonvoluntary_ctxt_switches (proc(5)).
func (k *Kernel) switches(t threadID) (n uint64, err error) {
	b, err := os.ReadFile(t.file(k, "status"))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(b)) {
		name, value, _ := strings.Cut(line, ":")
		if name != "voluntary_ctxt_switches" && name != "nonvoluntary_ctxt_switches" {
			continue
		}
		v, err := strconv.ParseUint(strings.TrimSpace(value), 10, 64)
		if err != nil {
			return 0, err
		}
		n += v
	}
	return n, nil
}
