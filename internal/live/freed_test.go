// SPDX-License-Identifier: Apache-2.0

package live

import (
	"fmt"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/lupatch/lupatch/internal/elfobj"
	"github.com/lupatch/lupatch/internal/kbuild"
	"github.com/lupatch/lupatch/internal/lab"
	"github.com/lupatch/lupatch/internal/lab/labtest"
	"github.com/lupatch/lupatch/internal/refuse"
	lupatch "github.com/lupatch/lupatch/update"
)

// TestNothingFreed takes updates back while something is in their code, or will
// be.
func TestNothingFreed(t *testing.T) {
	t.Parallel()
	g := boot(t, lab.Config{})
	g.insmod(g.putFile(target(t), "/root/lutarget.ko"))
	g.run("asleep in the shipped function", asleepInShipped)
	g.sample(2, "asleep in a helper", func(g guest) {
		asleep(g, sleeper{update: "helper", file: "helper", stack: []string{"wait_in_helper", "helper_show"}, before: "helper 1", woken: "helper 1, updated"})
	})
	g.sample(2, "asleep in a tail call", func(g guest) {
		asleep(g, sleeper{update: "helper", file: "tail", stack: []string{"wait_in_tail", "tail_show"}, before: "tail 1", woken: "tail, updated"})
	})
	g.sample(3, "asleep in a cold part", func(g guest) {
		asleep(g, sleeper{update: "cold", file: "cold", stack: []string{"cold_wait", "cold_show"}, behind: hotSizes(g.t, "cold", "cold_wait", "cold_show"), before: "cold 1", woken: "cold 1, updated"})
		for _, text := range []string{"asleep in a cold part, called from a cold one", "woken in a cold part"} {
			if !strings.Contains(g.Console(), text) {
				g.t.Errorf("the kernel did not say %q", text)
			}
		}
	})
	g.run("work queued", workQueued)
}

// hotSizes compiles a patched file and gives the sizes of the main parts of
// functions: what lies behind one is the part that the compiler has split off.
func hotSizes(t testing.TB, patch string, functions ...string) (sizes []uint64) {
	t.Helper()
	const source = "lutarget_a.c"
	tree, err := kbuild.Open(t.Context(), kbuild.Options{Release: labtest.Release, Dir: filepath.Dir(target(t))})
	if err != nil {
		t.Fatal(err)
	}
	ov, err := tree.Overlay(patched(t, filepath.Join("testdata", patch+".patch"), tree.Src))
	if err != nil {
		t.Fatal(err)
	}
	defer ov.Close()
	tu, err := tree.TU(t.Context(), source)
	if err != nil {
		t.Fatal(err)
	}
	obj, err := tree.Compile(t.Context(), kbuild.Job{TU: tu, Overlay: ov, Flavor: kbuild.Sections})
	if err != nil {
		t.Fatal(err)
	}
	f, err := elfobj.ReadFile(obj.Path)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range functions {
		var hot, cold *elfobj.Symbol
		for _, y := range f.Symbols {
			switch y.Name {
			case name:
				hot = y
			case name + ".cold":
				cold = y
			}
		}
		if hot == nil || cold == nil {
			t.Fatalf("the compiler did not split %s", name)
		}
		sizes = append(sizes, hot.Size)
	}
	return sizes
}

// sleeper is a task that sleeps in an update's code.
type sleeper struct {
	update, file string
	// stack are the functions of the update on its stack, innermost first;
	// behind, if not nil, are the offsets in them that it is behind.
	stack         []string
	behind        []uint64
	before, woken string
}

func (g guest) openGate(open bool) {
	g.t.Helper()
	g.sh(fmt.Sprintf("echo %v > /sys/module/lutarget/parameters/go", map[bool]string{false: "N", true: "Y"}[open]))
}

// sleep reads a file of the target until the task sleeps in the function.
func (g guest) sleep(file, function string) *lab.Process {
	g.t.Helper()
	g.openGate(false)
	p, err := g.Start(g.t.Context(), lab.Cmd{Argv: []string{"cat", "/proc/lutarget/" + file}, Timeout: commandTime})
	if err != nil {
		g.t.Fatal(err)
	}
	// A part that was split off may have a name of its own.
	g.until(fmt.Sprintf("grep -q '%s[.+].*\\[lu' /proc/%d/stack", function, p.PID))
	return p
}

// awaitBlocker waits until the transition waits for one task alone.
func (g guest) awaitBlocker(pid int, state string) lupatch.Status {
	g.t.Helper()
	for end := time.Now().Add(lab.DefaultTimeout); time.Now().Before(end); {
		s := g.status()
		if p := s.Transition; p != nil && len(p.Remaining) == 1 && p.Remaining[0].PID == pid && len(s.Updates) == 1 && s.Updates[0].State == state {
			return s
		}
	}
	g.t.Fatalf("no transition waits for task %d alone: %+v", pid, g.status())
	panic("unreachable")
}

// asleep takes an update back while a task sleeps in its code.
func asleep(g guest, s sleeper) {
	u := update(g.t, s.update)
	g.openGate(true)
	g.wantShown(s.file, s.before)
	if len(u.manifest.Escapes) > 0 {
		g.t.Fatalf("addresses escape: %q", u.manifest.Escapes)
	}
	g.apply(u)
	p := g.sleep(s.file, s.stack[0])
	checkStack(g, p, u.name, s)

	// A deadline ends in the state before.
	g.refused(refuse.TransitionReversed, []string{s.stack[0], fmt.Sprintf("cat (%d)", p.PID)}, "rollback", "--deadline", "4s", u.name)
	g.wantStatus(u.name + " applied")
	checkStack(g, p, u.name, s)

	// With time enough it is the task that ends it.
	back := g.background(g.t.Context(), "lupatch", "rollback", "--json", "--deadline", "2m", u.name)
	g.awaitBlocker(p.PID, lupatch.StateReversing)
	g.wantErrno(g.Rmmod(g.t.Context(), u.name), unix.EWOULDBLOCK)
	select {
	case <-back.Done():
		g.t.Fatal("the rollback ended while a task was in the code")
	case <-p.Done():
		g.t.Fatal("the task was woken")
	default:
	}
	checkStack(g, p, u.name, s)
	g.openGate(true)
	if r := g.wait(p); r.Code != 0 || strings.TrimSpace(string(r.Stdout)) != s.woken {
		g.t.Errorf("the task that slept read %q, want %q", r.Stdout, s.woken)
	}
	if r := g.wait(back); r.Code != 0 || strings.Contains(string(r.Stdout), `"resident"`) {
		g.t.Errorf("rollback: exit code %d\n%s%s", r.Code, r.Stdout, r.Stderr)
	}
	g.wantLoaded(u.name, false)
	g.wantStatus("")
	g.wantShown(s.file, s.before)
}

var reFrame = regexp.MustCompile(`(?m)^\S+ ([\w.]+)\+0x([0-9a-f]+)/0x[0-9a-f]+ \[(\w+)\]$`)

// checkStack wants the sleeper's functions, all in the update, to be what the
// task is in.
func checkStack(g guest, p *lab.Process, module string, s sleeper) {
	g.t.Helper()
	text := g.sh(fmt.Sprintf("cat /proc/%d/stack", p.PID))
	frames := reFrame.FindAllStringSubmatch(text, -1)
	var got []string
	for _, f := range frames {
		if f[3] != module {
			continue
		}
		if i := len(got); i < len(s.behind) {
			if at, err := strconv.ParseUint(f[2], 16, 64); err != nil || at <= s.behind[i] {
				g.t.Fatalf("the task is at %#x of %s, want it behind %#x\n%s", at, f[1], s.behind[i], text)
			}
		}
		got = append(got, f[1])
	}
	if strings.Join(got, " ") != strings.Join(s.stack, " ") {
		g.t.Fatalf("in the update the task is in %q, want %q\n%s", got, s.stack, text)
	}
}

// asleepInShipped: the other way round, a task keeps an update from being
// applied.
func asleepInShipped(g guest) {
	u := update(g.t, "shipped")
	p := g.sleep("shipped", "shipped_show")
	g.refused(refuse.TransitionReversed, []string{"shipped_show", fmt.Sprintf("cat (%d)", p.PID)}, "apply", "--deadline", "4s", g.file(u))
	g.wantStatus("")
	g.wantLoaded(u.name, false)
	apply := g.background(g.t.Context(), "lupatch", "apply", "--json", "--deadline", "2m", g.file(u))
	g.awaitBlocker(p.PID, lupatch.StateApplying)
	g.openGate(true)
	if r := g.wait(p); strings.TrimSpace(string(r.Stdout)) != "shipped" {
		g.t.Errorf("the task that slept read %q", r.Stdout)
	}
	if r := g.wait(apply); r.Code != 0 {
		g.t.Errorf("apply: exit code %d\n%s%s", r.Code, r.Stdout, r.Stderr)
	}
	g.wantShown("shipped", "shipped, updated")
	g.rollback()
	g.wantShown("shipped", "shipped")
}

// workQueued takes an update back of which a work item sleeps, and another is
// to be queued. The kernel's own check knows nothing of them.
func workQueued(g guest) {
	u := update(g.t, "work")
	if len(u.manifest.Escapes) == 0 {
		g.t.Fatal("the update does not say that addresses of it escape")
	}
	const first, second = "the work of the update has run", "the delayed work of the update has run"
	g.openGate(false)
	g.apply(u)
	g.wantShown("work", "work, queued")
	g.until("grep -qs waiting_work /proc/[0-9]*/stack")
	r := g.rollback()
	if r.Resident == "" || r.Module != u.name {
		g.t.Errorf("rollback: %+v", r)
	}
	g.wantStatus(u.name + " resident")
	g.wantShown("work", "work 1")
	g.wantErrno(g.Rmmod(g.t.Context(), u.name), unix.EBUSY)
	g.sh("grep -qs waiting_work /proc/[0-9]*/stack")
	if strings.Contains(g.Console(), "of the update has run") {
		g.t.Fatal("the work ran too early")
	}
	// While the copy is in memory, the update is applied under a second name.
	if r := g.apply(u)[0]; r.Module != u.name+"__2" {
		g.t.Errorf("the second generation is called %s", r.Module)
	}
	if got, want := summary(g.status()), u.name+"__2 applied, "+u.name+" resident"; got != want {
		g.t.Errorf("status is %q, want %q", got, want)
	}
	g.openGate(true)
	for _, text := range []string{first, second} {
		if _, err := g.WaitConsole(g.t.Context(), regexp.MustCompile(text)); err != nil {
			g.t.Fatal(err)
		}
	}
	g.wantShown("work", "work, queued")
	if _, err := g.WaitConsole(g.t.Context(), regexp.MustCompile("(?s)"+second+".*"+second)); err != nil {
		g.t.Fatal(err)
	}
	if r := g.rollback(); r.Module != u.name+"__2" || r.Resident == "" {
		g.t.Errorf("second rollback: %+v", r)
	}
	g.wantShown("work", "work 1")
	if got := summary(g.status()); !strings.Contains(got, u.name+" resident") || !strings.Contains(got, u.name+"__2 resident") {
		g.t.Errorf("status is %q", got)
	}
}
