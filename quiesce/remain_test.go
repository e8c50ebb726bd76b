// SPDX-License-Identifier: Apache-2.0

package quiesce

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/lupatch/lupatch/kpatch"
	"github.com/lupatch/lupatch/kpatch/kpatchtest"
)

// visits are system calls of a host whose CPU lets nobody in while held is open.
type visits struct {
	*kpatchtest.Kernel
	count chan int
	held  chan struct{}
}

func (v *visits) OnCPU(cpu int, f func()) error {
	v.count <- cpu
	<-v.held
	f()
	return nil
}

func TestExplain(t *testing.T) {
	fake := kpatchtest.New(t.TempDir())
	fake.AddTask(kpatchtest.Task{PID: 20, Comm: "spin", State: 'R'})
	fake.AddTask(kpatchtest.Task{PID: 21, Comm: "dd", Stack: []string{"msleep", "e1000_up [e1000]", "entry_SYSCALL_64_after_hwframe"}})
	fake.AddTask(kpatchtest.Task{PID: 22, Comm: "nfsd", State: 'D', Stack: []string{"e1000_up [e1000]", "ret_from_fork"}})
	fake.AddTask(kpatchtest.Task{PID: 23, Comm: "sh", Stack: []string{"do_wait", "entry_SYSCALL_64_after_hwframe"}})
	v := &visits{fake, make(chan int, 10), make(chan struct{})}
	w := &Watch{Kernel: &kpatch.Kernel{Root: fake.Root, Sys: v}, Functions: []Function{{Unit: "e1000", Name: "e1000_up"}}}
	look := func(nudged ...int) []kpatch.Task {
		t.Helper()
		p := &kpatch.Progress{Livepatch: "fix", Enabling: true, Remaining: []kpatch.Task{{TID: 20}, {TID: 21}, {TID: 22}, {TID: 23}, {TID: 99}}}
		if err := w.Explain(t.Context(), p); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(p.Nudged, nudged) {
			t.Errorf("nudged are %v, want %v", p.Nudged, nudged)
		}
		return p.Remaining
	}
	got := look()
	for i, want := range []string{"running on CPU 0", "sleeping in the old e1000_up", "uninterruptible in the old e1000_up, no signal wakes it", "sleeping outside, it moves at the kernel's next look", ""} {
		if got[i].Why != want {
			t.Errorf("%d: %q, want %q", got[i].TID, got[i].Why, want)
		}
	}
	if len(got[1].Stack) != 3 || !strings.Contains(got[1].String(), "msleep < e1000_up [e1000] < entry_SYSCALL_64_after_hwframe: sleeping in the old e1000_up") {
		t.Errorf("%s", got[1])
	}
	// One that ran at two looks is visited, and no further while the visit lasts.
	look(20)
	look()
	if n := len(v.count); n != 1 {
		t.Errorf("%d visits at once", n)
	}
	close(v.held)
	<-w.visits[0]
	look(20)
	if n := len(v.count); n != 2 {
		t.Errorf("%d visits after the first had ended", n)
	}
}

// A CPU without timer tick is visited at the first look.
func TestTickless(t *testing.T) {
	fake := kpatchtest.New(t.TempDir())
	fake.AddTask(kpatchtest.Task{PID: 20, Comm: "spin", State: 'R'})
	dir := filepath.Join(fake.Root, "sys/devices/system/cpu")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "nohz_full"), []byte("0-1\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	w := &Watch{Kernel: &kpatch.Kernel{Root: fake.Root, Sys: fake}}
	p := &kpatch.Progress{Remaining: []kpatch.Task{{TID: 20}}}
	if err := w.Explain(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	if len(p.Nudged) != 1 || !strings.Contains(p.Remaining[0].Why, "nohz_full") {
		t.Errorf("%+v", p)
	}
}
