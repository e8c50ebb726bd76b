// SPDX-License-Identifier: Apache-2.0

package live

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/lupatch/lupatch/internal/build"
	"github.com/lupatch/lupatch/internal/kbuild"
	"github.com/lupatch/lupatch/internal/lab"
	"github.com/lupatch/lupatch/internal/lab/labtest"
	"github.com/lupatch/lupatch/internal/manifest"
	"github.com/lupatch/lupatch/internal/refuse"
	"github.com/lupatch/lupatch/internal/sample"
	"github.com/lupatch/lupatch/quiesce"
	"github.com/lupatch/lupatch/quiesce/quiescetest"
	lupatch "github.com/lupatch/lupatch/update"
)

// busy is the module with functions that tasks are inside of.
func busy(t testing.TB) string {
	return made.get(t, "busy", func(ctx context.Context, dir string) (string, error) {
		if err := quiescetest.Write(dir); err != nil {
			return "", err
		}
		tree, err := kbuild.Open(ctx, kbuild.Options{Release: labtest.Release})
		if err != nil {
			return "", err
		}
		return tree.LinkModule(ctx, quiescetest.Source(dir), quiescetest.Module)
	})
}

// busyUpdate builds an update for it.
func busyUpdate(t testing.TB, name string) built {
	t.Helper()
	source := filepath.Dir(busy(t))
	file := made.get(t, "busy-"+name, func(ctx context.Context, dir string) (string, error) {
		res, err := build.Run(ctx, build.Options{Patch: quiescetest.Patch(filepath.Dir(source), name), Dir: source, Release: labtest.Release,
			Name: "lupatch_" + name, Output: filepath.Join(dir, "lupatch_"+name+".ko")})
		if err != nil {
			return "", err
		}
		return res.Path, nil
	})
	image, m, err := manifest.ReadModule(file)
	if err != nil {
		t.Fatal(err)
	}
	return built{name: "lupatch_" + name, file: file, image: image, manifest: m}
}

// TestSafePoints updates functions that tasks do not leave.
func TestSafePoints(t *testing.T) {
	t.Parallel()
	g := boot(t, lab.Config{Files: []lab.File{{Path: "/root/busy.ko", Host: busy(t)}}})
	g.insmod("/root/busy.ko")
	g.until("grep -q " + quiescetest.KthreadLoop + " /proc/$(pidof " + quiescetest.KthreadName + ")/stack")
	g.sample(4, "never", neverLeaves)
	g.sample(2, "reversing", asleepInNew)
	g.sample(2, "quiet", quietMoment)
	g.sample(2, "forced", forcedOn)
}

// condition is what an update that was taken back leaves as it was.
func (g guest) condition() string {
	g.t.Helper()
	return g.modules() + g.sh("cat /sys/kernel/debug/tracing/enabled_functions; ls /sys/kernel/livepatch; cat /proc/lubusy/value")
}

// plan runs the command and decodes its answer.
func (g guest) plan(code int, args ...string) (p lupatch.Plan) {
	g.t.Helper()
	r := g.lupatch("plan", args...)
	if r.Code != code {
		g.t.Fatalf("plan: exit code %d, want %d\n%s%s", r.Code, code, r.Stdout, r.Stderr)
	}
	g.decode(r, &p)
	return p
}

// neverLeaves: a thread is in its loop for ever. It is named before anything is
// loaded; an apply that does not believe it is reversed at its deadline.
func neverLeaves(g guest) {
	u := busyUpdate(g.t, "loop")
	before, file := g.condition(), g.file(u)
	p := g.plan(refuse.ReversedCode, file)
	if p.Expected != lupatch.Never || len(p.Because) != 1 || !strings.Contains(p.Because[0], "kthread lubusy (") || !strings.Contains(p.Because[0], "in lubusy_loop+0x") {
		g.t.Errorf("plan expects %s: %q", p.Expected, p.Because)
	}
	if p.Pass == nil || p.Pass.Way != quiesce.WayBPF || len(p.Pass.Blockers) != 1 || len(p.Units) != 1 || p.Units[0].Has != 0 || len(p.Units[0].Functions) != 2 || len(p.Hooks)+len(p.Unlooked) > 0 {
		g.t.Errorf("plan: %+v", p)
	}
	// The same by procfs, where the kernel has no type information to show.
	g.sh("mount -t tmpfs none /sys/kernel/btf")
	if p := g.plan(refuse.ReversedCode, file); p.Expected != lupatch.Never || p.Pass.Way != quiesce.WayProcfs || !strings.Contains(p.Pass.Why, "/sys/kernel/btf/vmlinux") {
		g.t.Errorf("plan without type information expects %s: %+v", p.Expected, p.Pass)
	}
	g.sh("umount /sys/kernel/btf")
	if now := g.condition(); now != before || g.sh("ls -A /var/lib/lupatch 2>/dev/null || true") != "" {
		g.t.Errorf("the plan changed the host: %q, %q", before, now)
	}
	r := g.lupatch("apply", "--deadline", "4s", file)
	if r.Code != refuse.ReversedCode || !strings.Contains(string(r.Stderr), "lubusy (") || !strings.Contains(string(r.Stderr), "kthread, sleeping in the old lubusy_loop") {
		g.t.Errorf("apply: exit code %d\n%s%s", r.Code, r.Stdout, r.Stderr)
	}
	if now := g.condition(); now != before {
		g.t.Errorf("before %q, afterwards %q", before, now)
	}
	g.wantStatus("")
}

// asleepInNew: while tasks are waited for, another one falls asleep in new code. The
// reversal then waits for that one, and ends once it wakes.
func asleepInNew(g guest) {
	u := busyUpdate(g.t, "loop")
	before, file := g.condition(), g.file(u)
	apply := g.background(g.t.Context(), "lupatch", "apply", "--deadline", "10s", file)
	g.until("grep -q 1 /sys/kernel/livepatch/" + u.name + "/transition")
	// A task that has moved calls it.
	reader := g.background(g.t.Context(), "sh", "-c", "until grep -qx 1 /proc/$$/patch_state; do usleep 20000; done; exec cat /proc/lubusy/value")
	g.until(fmt.Sprintf("grep -q 'lubusy_value.*%s' /proc/%d/stack", u.name, reader.PID))
	// Nobody but the livepatch is at the sites of its functions.
	if sites := g.sh("grep lubusy_ /sys/kernel/debug/tracing/enabled_functions"); strings.Count(sites, "(1)") != 2 || strings.Count(sites, "lubusy_") != 2 {
		g.t.Errorf("ftrace sites: %s", sites)
	}
	r := g.wait(apply)
	const unfinished = 5
	if text := string(r.Stderr); r.Code != unfinished || !strings.Contains(text, "cat (") || !strings.Contains(text, "in the new lubusy_value, no signal wakes it") {
		g.t.Errorf("apply: exit code %d\n%s%s", r.Code, r.Stdout, r.Stderr)
	}
	s := g.status()
	if got := summary(s); got != u.name+" "+lupatch.StateStuck {
		g.t.Errorf("status is %q", got)
	}
	if s.Transition == nil || s.Transition.Enabling || len(s.Transition.Remaining) != 1 || s.Transition.Remaining[0].TID != reader.PID || !strings.Contains(s.Transition.Remaining[0].Why, "in the new lubusy_value") {
		g.t.Errorf("transition: %+v", s.Transition)
	}
	g.sh("echo 1 > /sys/module/lubusy/parameters/open")
	if r := g.wait(reader); string(r.Stdout) != "1011\n" {
		g.t.Errorf("the task that woke read %q", r.Stdout)
	}
	g.sh("echo 0 > /sys/module/lubusy/parameters/open")
	if r := g.lupatch("recover"); r.Code != 0 {
		g.t.Errorf("recover: %+v", r)
	}
	if now := g.condition(); now != before {
		g.t.Errorf("before %q, afterwards %q", before, now)
	}
	g.wantStatus("")
}

// TestTickless takes an update back on a host where a task runs in user mode without
// ever being interrupted. (Loading a module interrupts every CPU by itself, when its
// init memory is freed.)
func TestTickless(t *testing.T) {
	t.Parallel()
	sample.OnlyThorough(t, "TestSafePoints has other tasks that are in the way")
	// Everything else that interrupts CPU 1 is kept from it: interrupts of devices,
	// RCU, workqueues, the watchdog of the clock, statistics of memory.
	g := boot(t, lab.Config{Cmdline: []string{"nohz_full=1", "isolcpus=nohz,domain,managed_irq,1", "irqaffinity=0", "rcu_nocbs=1", "tsc=reliable"},
		Files: []lab.File{{Path: "/root/busy.ko", Host: busy(t)}}})
	if got := g.sh("cat /sys/devices/system/cpu/nohz_full"); got != "1" {
		t.Fatalf("nohz_full is %q", got)
	}
	g.insmod("/root/busy.ko")
	g.sh("echo 1 > /sys/devices/virtual/workqueue/cpumask; echo 1000 > /proc/sys/vm/stat_interval")
	spin := g.background(t.Context(), "taskset", "2", "awk", "BEGIN { while (1) n++ }")
	allowed := fmt.Sprintf("grep Cpus_allowed: /proc/%d/status", spin.PID)
	g.until(fmt.Sprintf("[ $(cut -d' ' -f39 /proc/%d/stat) = 1 ]", spin.PID))
	mask := g.sh(allowed)
	u := busyUpdate(t, "load")
	const signalled = "dmesg | grep -c 'livepatch: signaling remaining tasks' || true"
	applied := g.apply(u)[0]
	if p := applied.Predicted; p == nil || len(p.Running) != 1 || p.Running[0].TID != spin.PID {
		t.Errorf("predicted: %+v", p)
	}
	r := g.wait(g.background(t.Context(), "lupatch", "rollback", "--yes"))
	if r.Code != 0 || !strings.Contains(string(r.Stderr), "running on CPU 1, which has no timer tick (nohz_full)") {
		t.Errorf("rollback: exit code %d\n%s%s", r.Code, r.Stdout, r.Stderr)
	}
	t.Logf("all tasks had moved after %v; %s", applied.Transition.Round(time.Millisecond), r.Stdout)
	if got := g.sh(signalled); got != "0" {
		t.Errorf("the kernel had to signal tasks %s times", got)
	}
	if now := g.sh(allowed); now != mask {
		t.Errorf("the task: %s, before it was %s", now, mask)
	}
	// Without lupatch that task stays until the kernel signals it.
	g.insmod(g.file(u))
	g.until("grep -q 0 /sys/kernel/livepatch/" + u.name + "/transition")
	g.sh("echo 0 > /sys/kernel/livepatch/" + u.name + "/enabled")
	g.until("! test -e /sys/kernel/livepatch/" + u.name)
	if got := g.sh(signalled); got != "1" {
		t.Errorf("the kernel signalled tasks %s times where nobody helped: this shows nothing", got)
	}
}

// quietMoment: an apply that is to begin when nobody is inside does not begin
// before.
func quietMoment(g guest) {
	const loads = "dmesg | grep -c 'livepatch: enabling patch .lupatch_loop' || true"
	before := g.sh(loads)
	g.refused(refuse.NeverQuiet, []string{"lubusy (", "lubusy_loop+0x"}, "apply", "--wait-quiet=2s", g.file(busyUpdate(g.t, "loop")))
	if got := g.sh(loads); got != before {
		g.t.Errorf("it was loaded %s times, and before %s", got, before)
	}
	load := busyUpdate(g.t, "load")
	p := g.plan(0, g.file(load))
	if p.Expected != lupatch.AtOnce {
		g.t.Errorf("plan expects %s: %q", p.Expected, p.Because)
	}
	// A task comes to sleep in there for some seconds: a plan says that it waits, an
	// apply waits until it has left, and then for nobody.
	sleeper := g.background(g.t.Context(), "dd", "if=/proc/lubusy/first", "of=/dev/null", "bs=15000", "count=1")
	g.until(fmt.Sprintf("grep -q lubusy_first /proc/%d/stack", sleeper.PID))
	if p := g.plan(0, "--watch", "400ms", g.file(load)); p.Expected != lupatch.Waits || len(p.Because) != 1 || !strings.Contains(p.Because[0], "dd (") {
		g.t.Errorf("plan expects %s: %q", p.Expected, p.Because)
	}
	var answer struct{ Applied []lupatch.Result }
	g.succeed(&answer, "apply", "--wait-quiet", g.file(load))
	select {
	case <-sleeper.Done():
	default:
		g.t.Error("it did not wait for the task")
	}
	if r := answer.Applied[0]; r.Predicted == nil || r.Predicted.Way != quiesce.WayBPF || len(r.Predicted.Blockers) != 0 || r.Transition > 10*time.Second {
		g.t.Errorf("%+v", r)
	}
	g.rollback()
}

// forcedOn: a transition that is forced is remembered.
func forcedOn(g guest) {
	u := busyUpdate(g.t, "loop")
	var answer struct{ Applied []lupatch.Result }
	g.succeed(&answer, "apply", "--force", "--yes", "--deadline", "3s", g.file(u))
	if f := answer.Applied[0].Forced; f == nil || !strings.Contains(f.Waited, "lubusy (") {
		g.t.Errorf("%+v", answer)
	}
	s := g.status()
	if summary(s) != u.name+" applied" || len(s.Forced) != 1 || s.Forced[0].Update != u.name {
		g.t.Errorf("status: %q, %+v", summary(s), s.Forced)
	}
	if r := g.rollback(); !strings.Contains(r.Resident, "forced upon tasks") {
		g.t.Errorf("%+v", r)
	}
	g.wantLoaded(u.name, true)
	if s := g.status(); len(s.Forced) != 1 || summary(s) != u.name+" resident" {
		g.t.Errorf("status: %+v", s)
	}
	if got := g.sh("cat /sys/kernel/debug/tracing/enabled_functions; cat /proc/lubusy/value"); got != "11" {
		g.t.Errorf("after the rollback: %q", got)
	}
}
