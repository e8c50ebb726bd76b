// SPDX-License-Identifier: Apache-2.0

package kpatch

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lupatch/lupatch/kpatch/kpatchtest"
)

func testKernel(t *testing.T) (*Kernel, *kpatchtest.Kernel) {
	fake := kpatchtest.New(t.TempDir())
	return &Kernel{Root: fake.Root, Sys: fake}, fake
}

func put(t *testing.T, k *Kernel, file, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(k.Path(file)), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(k.Path(file), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestTaint(t *testing.T) {
	k, fake := testKernel(t)
	for flags, want := range map[uint64]string{0: "", 1: "P", 1<<7 | 1<<9 | 1<<15: "DWK", 1 << 18: "N", 1<<40 | 1: "P40"} {
		fake.Taint(flags)
		got, err := k.Tainted()
		if err != nil || got.Letters() != want {
			t.Errorf("%#x: %q, %v", flags, got.Letters(), err)
		}
	}
	put(t, k, "/proc/sys/kernel/tainted", "x\n")
	if _, err := k.Tainted(); err == nil {
		t.Error("a taint that is no number")
	}
}

// What the letters stand for is what the kernel prints of itself.
func TestTaintLetters(t *testing.T) {
	if (TaintDie|TaintOutOfTree|TaintUnsigned|TaintLivepatch).Letters() != "DOEK" || TaintOfLoading.Letters() != "OEK" {
		t.Errorf("%s, %s", (TaintDie | TaintOutOfTree | TaintUnsigned | TaintLivepatch).Letters(), TaintOfLoading.Letters())
	}
}

func TestCounts(t *testing.T) {
	k, _ := testKernel(t)
	if c := k.Counts(); c.Known {
		t.Errorf("%+v", c)
	}
	put(t, k, "/sys/kernel/oops_count", "2\n")
	if c := k.Counts(); c.Known {
		t.Errorf("%+v", c)
	}
	put(t, k, "/sys/kernel/warn_count", "3\n")
	if d := cmp.Diff(Counts{2, 3, true}, k.Counts()); d != "" {
		t.Error(d)
	}
}

func TestPanicSettings(t *testing.T) {
	k, _ := testKernel(t)
	put(t, k, "/proc/sys/kernel/panic_on_warn", "0\n")
	if list := k.PanicSettings(); len(list) != 0 {
		t.Error(list)
	}
	put(t, k, "/proc/sys/kernel/panic_on_oops", "1\n")
	put(t, k, "/proc/sys/kernel/hung_task_panic", "1\n")
	if d := cmp.Diff([]string{"kernel.panic_on_oops", "kernel.hung_task_panic"}, k.PanicSettings()); d != "" {
		t.Error(d)
	}
}

func TestBlocked(t *testing.T) {
	k, fake := testKernel(t)
	fake.AddTask(kpatchtest.Task{PID: 7, Comm: "dd", State: 'D', Switches: 5, Stack: []string{"schedule", "e1000_up [e1000]"}})
	fake.AddTask(kpatchtest.Task{PID: 8, Comm: "idle", State: 'I', Stack: []string{"schedule"}})
	fake.AddTask(kpatchtest.Task{PID: 9, Comm: "gone", State: 'D'})
	if err := os.Remove(k.Path("/proc/9/task/9/status")); err != nil {
		t.Fatal(err)
	}
	got, err := k.Blocked(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want := []Blocked{{Task{PID: 7, TID: 7, Comm: "dd", Stack: []Frame{{"schedule", ""}, {"e1000_up", "e1000"}}}, 5}}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}
