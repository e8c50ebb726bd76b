// SPDX-License-Identifier: Apache-2.0

package kpatch_test

import (
	"testing"
	"time"

	"github.com/lupatch/lupatch/internal/refuse"
	"github.com/lupatch/lupatch/kpatch"
	"github.com/lupatch/lupatch/kpatch/kpatchtest"
)

// disabled gives a host on which the update fix_mtu is disabled and resident.
func disabled(t *testing.T, escapes ...string) (*kpatch.Kernel, *kpatchtest.Kernel) {
	k, fake := host(t)
	m := kpatchtest.Manifest("fix_mtu", "e1000", "e1000_change_mtu")
	m.Escapes = escapes
	if err := k.Load(t.Context(), kpatchtest.Module(m), ""); err != nil {
		t.Fatal(err)
	}
	if err := k.Disable(t.Context(), "fix_mtu"); err != nil {
		t.Fatal(err)
	}
	return k, fake
}

func resident(t *testing.T, k *kpatch.Kernel, want bool) {
	t.Helper()
	if loaded, err := k.Loaded("fix_mtu"); err != nil || loaded != want {
		t.Fatalf("loaded %v, %v", loaded, err)
	}
}

func TestUnloadOnlyWhenSafe(t *testing.T) {
	syscallStack := []string{"do_nanosleep", "entry_SYSCALL_64_after_hwframe"}
	for name, c := range map[string]struct {
		task kpatchtest.Task
		part string // empty: it is unloaded
	}{
		"asleep in a helper": {kpatchtest.Task{PID: 9, Comm: "cat", Stack: []string{"msleep", "helper [fix_mtu]", "entry_SYSCALL_64_after_hwframe"}}, "cat (9) in msleep < helper [fix_mtu]"},
		"in a .cold part":    {kpatchtest.Task{PID: 9, Comm: "cat", Stack: []string{"e1000_change_mtu.cold [fix_mtu]", "entry_SYSCALL_64_after_hwframe"}}, "e1000_change_mtu.cold"},
		"in another module":  {kpatchtest.Task{PID: 9, Comm: "cat", Stack: []string{"f [fix_mtu2]", "entry_SYSCALL_64_after_hwframe"}}, ""},
		"kernel thread":      {kpatchtest.Task{PID: 9, Comm: "kworker/0:1", Stack: []string{"worker_thread", "kthread", "ret_from_fork"}}, ""},
		"running elsewhere":  {kpatchtest.Task{PID: 9, Comm: "burn", State: 'R', Shown: []string{"schedule", "asm_sysvec_apic_timer_interrupt"}}, ""},
		"running in it":      {kpatchtest.Task{PID: 9, Comm: "burn", State: 'R', Shown: []string{"helper [fix_mtu]", "asm_sysvec_apic_timer_interrupt"}}, "burn (9)"},
		"zombie":             {kpatchtest.Task{PID: 9, Comm: "dead", State: 'Z'}, ""},
		"odd name":           {kpatchtest.Task{PID: 9, Comm: "a) Z 1 (b", Stack: syscallStack}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			k, fake := disabled(t)
			fake.AddTask(c.task)
			err := k.Unload(t.Context(), "fix_mtu", nil)
			if c.part == "" {
				if err != nil {
					t.Fatal(err)
				}
			} else {
				wantRefusal(t, err, refuse.UnloadUnsafe, c.part)
			}
			resident(t, k, c.part != "")
		})
	}
}

// A stack that was cut off, or that nobody sees, proves nothing.
func TestUnloadUnseen(t *testing.T) {
	deep := make([]string, 64)
	for i := range deep {
		deep[i] = "recursive"
	}
	deep[63] = "ret_from_fork"
	for name, task := range map[string]kpatchtest.Task{
		"always running": {PID: 9, Comm: "burn", State: 'R'},
		"cut off":        {PID: 9, Comm: "odd", Stack: []string{"schedule", "do_something"}},
		"too deep":       {PID: 9, Comm: "deep", Stack: deep},
	} {
		t.Run(name, func(t *testing.T) {
			k, fake := disabled(t)
			fake.AddTask(task)
			err := k.Unload(deadline(t, 300*time.Millisecond), "fix_mtu", nil)
			wantRefusal(t, err, refuse.UnloadUnsafe, "cannot be told")
			resident(t, k, true)
		})
	}
}

func TestUnloadEscapes(t *testing.T) {
	k, _ := disabled(t, "timer in e1000_watchdog")
	wantRefusal(t, k.Unload(t.Context(), "fix_mtu", []string{"timer in e1000_watchdog"}), refuse.UnloadUnsafe, "timer in e1000_watchdog")
	// The kernel has the last word if the manifest is not asked.
	wantRefusal(t, k.Unload(t.Context(), "fix_mtu", nil), refuse.UnloadUnsafe, "exit function")
	resident(t, k, true)
}
