// SPDX-License-Identifier: Apache-2.0

package quiesce_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"

	"github.com/lupatch/lupatch/internal/kbuild"
	"github.com/lupatch/lupatch/internal/lab"
	"github.com/lupatch/lupatch/internal/lab/labtest"
	"github.com/lupatch/lupatch/kpatch"
	"github.com/lupatch/lupatch/quiesce"
	"github.com/lupatch/lupatch/quiesce/quiescetest"
)

// inGuest is set where this program runs in a lab host.
const inGuest = "LUPATCH_TEST_IN_GUEST"

func TestMain(m *testing.M) {
	switch what := os.Getenv(inGuest); what {
	case "":
		os.Exit(m.Run())
	case "load":
		err := quiescetest.Load(context.Background(), 40, 1, 2*time.Second, func() { fmt.Println("ready") })
		fmt.Println(err)
		os.Exit(1)
	case "fentry":
		if err := json.NewEncoder(os.Stdout).Encode(fentry()); err != nil {
			panic(err)
		}
	default:
		if err := json.NewEncoder(os.Stdout).Encode(look(strings.Split(what, ","))); err != nil {
			panic(err)
		}
	}
}

// seen is what the program in the guest reports.
type seen struct {
	BPF, Procfs *quiesce.Pass
	Habits      []quiesce.Habit
	Conflicts   []quiesce.Conflict
	Unknown     []string
	// Waited is what WaitQuiet ended with.
	Waited   *quiesce.Pass
	WaitErr  string
	Deadline bool
	// Left are BPF programs and links that were not there before.
	Left     int
	OpenTook time.Duration
}

func look(names []string) (s seen) {
	var functions []quiesce.Function
	for _, n := range names {
		functions = append(functions, quiesce.Function{Unit: quiescetest.Module, Name: n})
	}
	before := objects()
	begin := time.Now()
	o, err := quiesce.Open(kpatch.Running(), functions)
	must(err)
	s.OpenTook = time.Since(begin)
	ctx := context.Background()
	s.BPF, err = o.Pass(ctx)
	must(err)
	s.Habits, _, err = o.Habits(ctx, 5, 100*time.Millisecond)
	must(err)
	limited, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	s.Waited, err = o.WaitQuiet(limited, nil)
	if err != nil {
		s.WaitErr, s.Deadline = err.Error(), errors.Is(err, context.DeadlineExceeded)
	}
	s.Conflicts, s.Unknown = o.Conflicts()
	must(o.UseProcfs("the test wants it"))
	s.Left = objects() - before
	s.Procfs, err = o.Pass(ctx)
	must(err)
	return s
}

// fentry attaches a program to a function, and looks for it.
func fentry() (s seen) {
	const function = "meminfo_proc_show"
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{Name: "nothing", Type: ebpf.Tracing, AttachType: ebpf.AttachTraceFEntry, AttachTo: function, License: "GPL",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 0), asm.Return()}})
	must(err)
	defer p.Close()
	l, err := link.AttachTracing(link.TracingOptions{Program: p})
	must(err)
	defer l.Close()
	o, err := quiesce.Open(kpatch.Running(), []quiesce.Function{{Unit: "vmlinux", Name: function}, {Unit: "vmlinux", Name: "loadavg_proc_show"}})
	must(err)
	defer o.Close()
	s.Conflicts, s.Unknown = o.Conflicts()
	return s
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

// objects counts BPF programs and links.
func objects() (n int) {
	for id, err := ebpf.ProgramGetNextID(0); err == nil; id, err = ebpf.ProgramGetNextID(id) {
		n++
	}
	it := new(link.Iterator)
	defer it.Close()
	for it.Next() {
		n++
	}
	return n
}

// run runs this program in the guest.
func run(t *testing.T, h *lab.Host, what string) (s seen) {
	t.Helper()
	r, err := h.Run(labtest.Context(t), lab.Cmd{Argv: []string{"/root/probe"}, Env: []string{inGuest + "=" + what}})
	if err != nil {
		t.Fatal(err)
	}
	if r.Code != 0 {
		t.Fatalf("status %d: %s%s", r.Code, r.Stdout, r.Stderr)
	}
	if err := json.Unmarshal(r.Stdout, &s); err != nil {
		t.Fatal(err)
	}
	return s
}

// ask looks for functions.
func ask(t *testing.T, h *lab.Host, functions ...string) seen {
	t.Helper()
	s := run(t, h, strings.Join(functions, ","))
	if s.BPF.Way != quiesce.WayBPF || s.Procfs.Way != quiesce.WayProcfs || s.Procfs.Why == "" {
		t.Fatalf("looked by %s (%s) and by %s", s.BPF.Way, s.BPF.Why, s.Procfs.Way)
	}
	if s.Left != 0 {
		t.Errorf("%d BPF objects were left", s.Left)
	}
	t.Logf("%v: opened in %v; %d tasks in %v by BPF, %d in %v by procfs", functions, s.OpenTook.Round(time.Millisecond), s.BPF.Tasks, s.BPF.Took, s.Procfs.Tasks, s.Procfs.Took)
	return s
}

// TestObserver looks at a module's tasks on a real kernel.
func TestObserver(t *testing.T) {
	t.Parallel()
	labtest.SkipIfShort(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	ctx, dir := labtest.Context(t), t.TempDir()
	if err := quiescetest.Write(dir); err != nil {
		t.Fatal(err)
	}
	tree, err := kbuild.Open(ctx, kbuild.Options{Release: labtest.Release})
	if err != nil {
		t.Fatal(err)
	}
	ko, err := tree.LinkModule(ctx, quiescetest.Source(dir), quiescetest.Module)
	if err != nil {
		t.Fatal(err)
	}
	h := labtest.Boot(t, lab.Config{Files: []lab.File{{Path: "/root/probe", Host: self, Mode: 0o755}, {Path: "/root/busy.ko", Host: ko}}})
	if err := h.Insmod(ctx, "/root/busy.ko", ""); err != nil {
		t.Fatal(err)
	}
	sites := labtest.Sh(t, h, "cat /sys/kernel/debug/tracing/enabled_functions")
	kthread(t, h)
	many(t, h)
	hooks(t, h)
	if now := labtest.Sh(t, h, "cat /sys/kernel/debug/tracing/enabled_functions"); now != sites {
		t.Errorf("ftrace sites before %q, after %q", sites, now)
	}
}

// kthread finds the thread that never leaves its loop.
func kthread(t *testing.T, h *lab.Host) {
	labtest.Sh(t, h, "until grep -q "+quiescetest.KthreadLoop+" /proc/$(pidof "+quiescetest.KthreadName+")/stack; do usleep 10000; done")
	s := ask(t, h, quiescetest.KthreadLoop, "lubusy_other")
	for _, p := range []*quiesce.Pass{s.BPF, s.Procfs} {
		if len(p.Blockers) != 1 {
			t.Fatalf("%s: blockers are %+v", p.Way, p.Blockers)
		}
		b := p.Blockers[0]
		if b.Comm != quiescetest.KthreadName || !b.Kthread || b.Hidden || b.Unit != quiescetest.Module || b.Function != quiescetest.KthreadLoop ||
			!strings.HasPrefix(b.Frame, quiescetest.KthreadLoop+"+0x") || !strings.HasSuffix(b.Frame, " [lubusy]") || b.State != quiesce.Sleeping {
			t.Errorf("%s: %+v", p.Way, b)
		}
		if !slices.ContainsFunc(b.Stack, func(f kpatch.Frame) bool { return f.Function == "kthread" && f.Module == "" }) {
			t.Errorf("%s: stack %v", p.Way, b.Stack)
		}
	}
	if len(s.Habits) != 1 || s.Habits[0].Busy != 5 || len(s.Habits[0].Forever()) != 1 || s.Habits[0].Sometimes != 0 {
		t.Errorf("habits: %+v", s.Habits)
	}
	if !s.Deadline || len(s.Waited.Blockers) != 1 {
		t.Errorf("waited for the thread: %q, %+v", s.WaitErr, s.Waited)
	}
}

// many compares both ways over tasks that come and go, and waits for a moment
// in which they are elsewhere, which comes when they have ended.
func many(t *testing.T, h *lab.Host) {
	p, err := h.Start(t.Context(), lab.Cmd{Argv: []string{"/root/probe"}, Env: []string{inGuest + "=load"}, Timeout: -1})
	if err != nil {
		t.Fatal(err)
	}
	labtest.Sh(t, h, "until [ $(cat /proc/"+fmt.Sprint(p.PID)+"/task/*/stack | grep -c lubusy_sleep) -gt 5 ]; do usleep 10000; done")
	s := ask(t, h, "lubusy_first", "lubusy_second")
	if n := len(s.BPF.Blockers); n == 0 || n > 40 {
		t.Errorf("%d blockers", n)
	}
	for _, b := range append(s.BPF.Blockers, s.Procfs.Blockers...) {
		if b.PID != p.PID || b.TID == p.PID && b.State == quiesce.Running || b.Kthread || b.State == quiesce.Uninterruptible || b.Function != "lubusy_first" && b.Function != "lubusy_second" {
			t.Errorf("%+v", b)
		}
	}
	for _, hb := range s.Habits {
		if len(hb.Forever()) > 0 || hb.Busy == 0 || len(hb.Always)+hb.Sometimes == 0 {
			t.Errorf("habits: %+v", hb)
		}
	}
	if !s.Deadline {
		t.Errorf("a quiet moment was found: %+v", s.Waited)
	}
	if err := p.Kill(t.Context(), 9); err != nil {
		t.Fatal(err)
	}
	<-p.Done()
	if s := ask(t, h, "lubusy_first", "lubusy_second"); s.WaitErr != "" || len(s.Waited.Blockers) != 0 || len(s.Habits) != 0 {
		t.Errorf("when all is quiet: %+v", s)
	}
}

// hooks are found: a kprobe at the entry, one inside, another user of ftrace.
func hooks(t *testing.T, h *lab.Host) {
	const tracing = "/sys/kernel/debug/tracing"
	found := func(want ...string) {
		t.Helper()
		s := ask(t, h, "lubusy_first", "lubusy_second")
		var got []string
		for _, c := range s.Conflicts {
			got = append(got, fmt.Sprintf("%s %s %v", c.Kind, c.Function, c.Blocks))
			if c.Unit != quiescetest.Module || c.Detail == "" {
				t.Errorf("%+v", c)
			}
		}
		if !slices.Equal(got, want) || len(s.Unknown) > 0 {
			t.Errorf("hooks are %q (%+v), want %q; unknown: %q", got, s.Conflicts, want, s.Unknown)
		}
	}
	found()
	labtest.Sh(t, h, "echo p:inside lubusy_first+10 > "+tracing+"/kprobe_events; echo 1 > "+tracing+"/events/kprobes/inside/enable")
	found("kprobe lubusy_first true")
	labtest.Sh(t, h, "echo 0 > "+tracing+"/events/kprobes/inside/enable; echo > "+tracing+"/kprobe_events")
	labtest.Sh(t, h, "echo lubusy_second > "+tracing+"/set_ftrace_filter; echo function > "+tracing+"/current_tracer")
	found("ftrace lubusy_second false")
	labtest.Sh(t, h, "echo nop > "+tracing+"/current_tracer; echo > "+tracing+"/set_ftrace_filter")
	found()
	// A BPF program shows twice: what it is, and that somebody is at the site.
	s := run(t, h, "fentry")
	if len(s.Conflicts) != 2 || len(s.Unknown) > 0 || s.Conflicts[0].Kind != "bpf" || s.Conflicts[1].Kind != "ftrace" || s.Conflicts[0].Blocks ||
		!strings.Contains(s.Conflicts[0].Detail, "nothing") || s.Conflicts[0].Function != "meminfo_proc_show" || s.Conflicts[1].Function != "meminfo_proc_show" {
		t.Errorf("hooks: %+v, unknown %q", s.Conflicts, s.Unknown)
	}
}
