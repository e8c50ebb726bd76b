// SPDX-License-Identifier: Apache-2.0

package bpf_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/lupatch/lupatch/bpf"
	"github.com/lupatch/lupatch/internal/lab"
	"github.com/lupatch/lupatch/internal/lab/labtest"
	"github.com/lupatch/lupatch/internal/sample"
)

// inGuest is set where this program runs in a lab host.
const inGuest = "LUPATCH_TEST_IN_GUEST"

func TestMain(m *testing.M) {
	if what := os.Getenv(inGuest); strings.HasPrefix(what, "capture ") {
		probeCapture(strings.Fields(what)[1:])
		os.Exit(0)
	} else if what != "" {
		if err := json.NewEncoder(os.Stdout).Encode(look(what)); err != nil {
			panic(err)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// seen is what the program in the guest reports.
type seen struct {
	Tasks []bpf.Task
	// Self is its own process.
	Self int
	// Err of OpenTasks, and what it is.
	Err                  string
	Unsupported, Refused bool
	// Programs and links: before, while the iterator is open, after.
	Programs, Links [3]int
}

func look(what string) (s seen) {
	s.Self = os.Getpid()
	s.Programs[0], s.Links[0] = count()
	if what == "nobody" {
		if err := unix.Setuid(65534); err != nil {
			panic(err)
		}
	}
	it, err := bpf.OpenTasks()
	if err != nil {
		s.Err, s.Unsupported, s.Refused = err.Error(), errors.Is(err, ebpf.ErrNotSupported), errors.Is(err, os.ErrPermission)
		return s
	}
	for range 3 { // any pass is as good as the first
		if s.Tasks, err = it.Read(context.Background()); err != nil {
			panic(err)
		}
	}
	s.Programs[1], s.Links[1] = count()
	if err := it.Close(); err != nil {
		panic(err)
	}
	s.Programs[2], s.Links[2] = count()
	return s
}

// count gives the numbers of BPF programs and links in the kernel.
func count() (programs, links int) {
	for id, err := ebpf.ProgramGetNextID(0); err == nil; id, err = ebpf.ProgramGetNextID(id) {
		programs++
	}
	it := new(link.Iterator)
	defer it.Close()
	for it.Next() {
		links++
	}
	return programs, links
}

func ask(t *testing.T, h *lab.Host, what string) (s seen) {
	t.Helper()
	r, err := h.Run(labtest.Context(t), lab.Cmd{Argv: []string{"/root/probe"}, Env: []string{inGuest + "=" + what}})
	if err != nil || r.Code != 0 {
		t.Fatalf("%v: %+v", err, r)
	}
	if err := json.Unmarshal(r.Stdout, &s); err != nil {
		t.Fatal(err)
	}
	return s
}

// The kernel is locked down as far as it goes, which costs the iterator nothing.
func TestTasksOfKernel(t *testing.T) {
	t.Parallel()
	sample.OnlyThorough(t, "TestObserver of package quiesce asks the same program")
	labtest.SkipIfShort(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	h := labtest.Boot(t, lab.Config{Cmdline: []string{"lockdown=confidentiality"}, Files: []lab.File{{Path: "/root/probe", Host: self, Mode: 0o755}}})
	if got := labtest.Sh(t, h, "cat /sys/kernel/security/lockdown"); !strings.Contains(got, "[confidentiality]") {
		t.Fatalf("lockdown: %s", got)
	}
	pid := labtest.Sh(t, h, "sleep 1000 >/dev/null 2>&1 & echo $!")
	labtest.Sh(t, h, fmt.Sprintf("until grep -q nanosleep /proc/%s/stack; do usleep 10000; done", pid))
	s := ask(t, h, "tasks")
	if s.Err != "" {
		t.Fatal(s.Err)
	}
	if s.Programs[1] != s.Programs[0]+1 || s.Links[1] != s.Links[0]+1 || s.Programs[2] != s.Programs[0] || s.Links[2] != s.Links[0] {
		t.Errorf("programs %v and links %v before, within, after", s.Programs, s.Links)
	}
	byTID := map[int]bpf.Task{}
	for _, task := range s.Tasks {
		if task.PatchState != -1 {
			t.Errorf("no transition, but %+v", task)
		}
		byTID[task.TID] = task
	}
	// Tasks that are there for good.
	for _, line := range strings.Split(labtest.Sh(t, h, `for p in 1 2 `+pid+`; do echo $p $(cat /proc/$p/comm); done`), "\n") {
		tid, comm, _ := strings.Cut(line, " ")
		n, err := strconv.Atoi(tid)
		if err != nil {
			t.Fatal(err)
		}
		if got := byTID[n]; got.Comm != comm || got.PID != n || got.Kthread() != (n == 2) || got.Ended() {
			t.Errorf("task %s (%s) is %+v", tid, comm, got)
		}
	}
	if me := byTID[s.Self]; me.PID != s.Self || me.Comm != "probe" {
		t.Errorf("the reader itself is %+v", me)
	}
	n, _ := strconv.Atoi(pid)
	sameStack(t, h, byTID[n])
	// The capture does with less.
	if c := probe(t, h, "start"); !c.State.On || !c.State.NoData {
		t.Errorf("captured under lockdown: %+v", c.State)
	}
	probe(t, h, "stop")
	labtest.Sh(t, h, "mount -t tmpfs none /sys/kernel/btf")
	if s := ask(t, h, "tasks"); !s.Unsupported || s.Refused {
		t.Errorf("without type information: %+v", s)
	}
	labtest.Sh(t, h, "umount /sys/kernel/btf")
	if s := ask(t, h, "nobody"); !s.Refused || s.Unsupported {
		t.Errorf("without privilege: %+v", s)
	}
}

// sameStack holds the addresses against what procfs says of the task.
func sameStack(t *testing.T, h *lab.Host, task bpf.Task) {
	t.Helper()
	want := strings.Split(labtest.Sh(t, h, fmt.Sprintf("sed 's/^[^ ]* //' /proc/%d/stack", task.TID)), "\n")
	if task.OnCPU || task.State&1 == 0 || task.Uninterruptible() || len(task.Stack) != len(want) {
		t.Fatalf("%+v; procfs says %q", task, want)
	}
	for i, line := range want {
		name, rest, _ := strings.Cut(line, "+")
		offset, _, _ := strings.Cut(rest, "/")
		off, err := strconv.ParseUint(offset, 0, 64)
		if err != nil {
			t.Fatal(err)
		}
		addr := fmt.Sprintf("%x", task.Stack[i]-off)
		if got := labtest.Sh(t, h, "grep -i '^0*"+addr+" . ' /proc/kallsyms"); !strings.Contains(got, " "+name) {
			t.Errorf("frame %d is %#x, procfs says %s, kallsyms %q", i, task.Stack[i], line, got)
		}
	}
}
