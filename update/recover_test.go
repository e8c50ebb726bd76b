// SPDX-License-Identifier: Apache-2.0

package update

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lupatch/lupatch/internal/journal"
	"github.com/lupatch/lupatch/internal/manifest"
	"github.com/lupatch/lupatch/internal/refuse"
	"github.com/lupatch/lupatch/kpatch"
	"github.com/lupatch/lupatch/kpatch/kpatchtest"
)

// crashed is what a command ends with at a crash point.
type crashed struct{ at string }

// atCrash runs f and crashes at the nth point, as far as a process can crash itself;
// internal/evidence/crash kills real ones. It says where that was, empty if f ended
// before.
func atCrash(n int, f func()) (at string) {
	before := atPoint
	defer func() {
		atPoint = before
		if c, ok := recover().(crashed); ok {
			at = c.at
		}
	}()
	atPoint = func(name string) {
		if n--; n == 0 {
			panic(crashed{name})
		}
	}
	f()
	return ""
}

type machine struct {
	*Host
	t    *testing.T
	fake *kpatchtest.Kernel
}

func newMachine(t *testing.T) *machine {
	fake := kpatchtest.New(t.TempDir())
	return &machine{NewHost(&kpatch.Kernel{Root: fake.Root, Sys: fake}), t, fake}
}

func (m *machine) file(man *manifest.Manifest) string {
	m.t.Helper()
	path := filepath.Join(m.t.TempDir(), man.Name+".ko")
	if err := os.WriteFile(path, kpatchtest.Module(man), 0o600); err != nil {
		m.t.Fatal(err)
	}
	return path
}

// inOld sleeps in what first replaces.
var inOld = kpatchtest.Task{PID: 7, Comm: "dd", Sticky: true, Stack: []string{"msleep", "e1000_up [e1000]", "entry_SYSCALL_64_after_hwframe"}}

// free ends the task that holds up transitions, if there is one.
func (m *machine) free() {
	if _, err := os.Stat(filepath.Join(m.fake.Root, "fake/sticky/7")); err == nil {
		m.fake.Free(7)
	}
}

func (m *machine) reboot(words ...string) {
	m.fake.Reboot(kpatchtest.Release, words...)
}

// present says what is in force, what is to be after a boot, and what else there is.
func (m *machine) present() string {
	m.t.Helper()
	state, err := m.State(m.t.Context())
	if err != nil {
		m.t.Fatal(err)
	}
	var force, durable []string
	for _, u := range state.Updates {
		if !u.Livepatch.Enabled || u.Livepatch.Transition {
			m.t.Errorf("%s is in transition", u.Module)
		}
		force = append(force, u.Manifest.Name)
	}
	slices.Sort(force)
	list, err := m.history()
	if err != nil {
		m.t.Fatal(err)
	}
	for _, u := range installed(list, kpatchtest.Release) {
		durable = append(durable, u.name)
	}
	slices.Sort(durable)
	stored, err := m.Store.List()
	if err != nil {
		m.t.Fatal(err)
	}
	for _, p := range list {
		if p.open() {
			m.t.Errorf("%s is open", p.id)
		}
	}
	if len(state.Foreign)+len(state.Resident)+len(state.Damaged) > 0 || len(stored) != len(durable) {
		m.t.Errorf("foreign %v, resident %v, damaged %v, stored %v", state.Foreign, state.Resident, state.Damaged, stored)
	}
	if !slices.Equal(force, durable) {
		m.t.Errorf("in force are %v, after a boot %v would be", force, durable)
	}
	return strings.Join(force, " ")
}

func first() *manifest.Manifest { return kpatchtest.Manifest("first", "e1000", "e1000_up") }
func second() *manifest.Manifest {
	return kpatchtest.On(kpatchtest.Manifest("second", "e1000", "e1000_down"), first())
}

// crashes are commands and what there is before and after each.
var crashes = []struct {
	name          string
	prepare       []*manifest.Manifest
	run           func(m *machine, ctx context.Context) error
	before, after string
}{
	{"apply", nil, func(m *machine, ctx context.Context) error {
		_, err := m.Apply(ctx, []string{m.file(first())}, Options{})
		return err
	}, "", "first"},
	{"apply two", nil, func(m *machine, ctx context.Context) error {
		_, err := m.Apply(ctx, []string{m.file(first()), m.file(second())}, Options{})
		return err
	}, "", "first second"},
	{"rollback", []*manifest.Manifest{first(), second()}, func(m *machine, ctx context.Context) error {
		_, err := m.Rollback(ctx, "second", Options{})
		return err
	}, "first second", "first"},
	{"failing apply", []*manifest.Manifest{first()}, func(m *machine, ctx context.Context) error {
		m.fake.AddTask(inOld)
		_, err := m.Apply(ctx, []string{m.file(second())}, Options{Deadline: 50 * time.Millisecond, Progress: func(e Event) {
			if e.State == journal.Undo {
				m.free()
			}
		}})
		return err
	}, "first", "first"},
}

// TestCrashes ends each command at every point, by the process alone and by the host,
// and then recovers: the host has the old version or the new one, and journal, store
// and kernel agree.
func TestCrashes(t *testing.T) {
	for _, c := range crashes {
		for _, power := range []bool{false, true} {
			if power && strings.HasPrefix(c.name, "failing") {
				continue // nothing of it is left by a boot, as of the others
			}
			t.Run(fmt.Sprintf("%s power %v", c.name, power), func(t *testing.T) {
				points := 0
				for n := 1; ; n++ {
					m := newMachine(t)
					for _, man := range c.prepare {
						if _, err := m.Apply(t.Context(), []string{m.file(man)}, Options{}); err != nil {
							t.Fatal(err)
						}
					}
					at := atCrash(n, func() { c.run(m, t.Context()) })
					m.free()
					if at == "" {
						break
					}
					points++
					if power {
						m.reboot()
						if _, err := m.Boot(t.Context(), Options{}); err != nil {
							t.Fatalf("%s: %v", at, err)
						}
					} else if _, err := m.Recover(t.Context(), Options{}); err != nil {
						t.Fatalf("%s: %v", at, err)
					}
					if got := m.present(); got != c.before && got != c.after || t.Failed() {
						t.Fatalf("after a crash %s: %q, neither %q nor %q", at, got, c.before, c.after)
					}
					if list, err := m.Recover(t.Context(), Options{}); err != nil || len(list) != 0 {
						t.Fatal(list, err)
					}
					// It can be done once more, if it was not done.
					if got := m.present(); got == c.before && c.before != c.after {
						if err := c.run(m, t.Context()); err != nil || m.present() != c.after {
							t.Fatalf("again after a crash %s: %v, %s", at, err, m.present())
						}
					}
				}
				if points < 10 {
					t.Errorf("only %d points", points)
				}
			})
		}
	}
}

// TestCrashesOfRecovery crashes the recovery as well, at every point.
func TestCrashesOfRecovery(t *testing.T) {
	for _, stop := range []int{6, 9, 12, 14} {
		for n := 1; ; n++ {
			m := newMachine(t)
			if at := atCrash(stop, func() { m.Apply(t.Context(), []string{m.file(first())}, Options{}) }); at == "" {
				t.Fatal("no crash")
			}
			at := atCrash(n, func() { m.Recover(t.Context(), Options{}) })
			if _, err := m.Recover(t.Context(), Options{}); err != nil {
				t.Fatal(err)
			}
			if got := m.present(); got != "" && got != "first" || t.Failed() {
				t.Fatal(at, got)
			}
			if at == "" {
				break
			}
		}
	}
}

func (m *machine) mustApply(list ...*manifest.Manifest) {
	m.t.Helper()
	for _, man := range list {
		if _, err := m.Apply(m.t.Context(), []string{m.file(man)}, Options{}); err != nil {
			m.t.Fatal(err)
		}
	}
}

func (m *machine) refused(err error, id refuse.ID, part string) {
	m.t.Helper()
	if e, ok := refuse.As(err); !ok || e.ID != id || !strings.Contains(e.Error(), part) {
		m.t.Fatalf("error is %v, want a refusal %s that says %q", err, id, part)
	}
}

// An open change has to be ended before the next one.
func TestUnfinishedRefuses(t *testing.T) {
	m := newMachine(t)
	m.mustApply(first())
	atCrash(8, func() { m.Apply(t.Context(), []string{m.file(second())}, Options{}) })
	for _, dry := range []bool{true, false} {
		_, err := m.Apply(t.Context(), []string{m.file(kpatchtest.Manifest("other", "vmlinux", "f"))}, Options{DryRun: dry})
		m.refused(err, refuse.Unfinished, "second: its apply was begun")
		_, err = m.Rollback(t.Context(), "first", Options{DryRun: dry})
		m.refused(err, refuse.Unfinished, "apply was begun")
	}
	list, err := m.Recover(t.Context(), Options{DryRun: true})
	if err != nil || len(list) != 1 || list[0].Updates[0] != "second" || list[0].Outcome != "" {
		t.Fatal(list, err)
	}
	if list, err = m.Recover(t.Context(), Options{}); err != nil || len(list) != 1 || list[0].Outcome != OutcomeUndone {
		t.Fatal(list, err)
	}
	m.mustApply(second())
}

// A reversal that waits for a task is left open, and ended once the task is gone.
func TestStuckIsFinishedLater(t *testing.T) {
	m := newMachine(t)
	before := shortestReversal
	t.Cleanup(func() { shortestReversal = before })
	shortestReversal = 0
	m.fake.AddTask(inOld)
	_, err := m.Apply(t.Context(), []string{m.file(first())}, Options{Deadline: 200 * time.Millisecond, Progress: func(e Event) {
		if e.Step == "transition" && e.State == journal.Begin && e.Transition == nil {
			// Another one has moved, and falls asleep in the new code.
			m.fake.AddTask(kpatchtest.Task{PID: 8, Comm: "cat", Sticky: true, Stack: []string{"msleep", "e1000_up [first]", "entry_SYSCALL_64_after_hwframe"}})
			if err := os.WriteFile(filepath.Join(m.fake.Root, "proc/8/task/8/patch_state"), []byte("1\n"), 0o644); err != nil {
				t.Error(err)
			}
		}
	}})
	var half *UndoError
	if !errors.As(err, &half) || !strings.Contains(err.Error(), "cat (8)") {
		t.Fatal(err)
	}
	if s, err := m.Status(t.Context()); err != nil || len(s.Updates) != 1 || s.Updates[0].State != StateStuck || len(s.Open) != 1 || s.Open[0].AtWork {
		t.Fatalf("%+v, %v", s, err)
	}
	for range 2 {
		if _, err := m.Recover(t.Context(), Options{Deadline: 200 * time.Millisecond}); !errors.As(err, &half) || !strings.Contains(err.Error(), "cat (8)") {
			t.Fatal(err)
		}
	}
	time.AfterFunc(100*time.Millisecond, func() {
		m.fake.AddTask(kpatchtest.Task{PID: 8, Comm: "cat", Sticky: true, Stack: []string{"msleep", "entry_SYSCALL_64_after_hwframe"}})
		m.fake.Free(8)
	})
	list, err := m.Recover(t.Context(), Options{Wait: true})
	if err != nil || len(list) != 1 || list[0].Outcome != OutcomeUndone || m.present() != "" {
		t.Fatal(list, err)
	}
}

// The module that a crash has left is someone else's.
func TestRecoverLeavesOthersAlone(t *testing.T) {
	m := newMachine(t)
	atCrash(11, func() { m.Apply(t.Context(), []string{m.file(first())}, Options{}) })
	m.fake.Reboot(kpatchtest.Release)
	m.fake.AddForeign("first", "e1000", "e1000_up")
	if _, err := m.Recover(t.Context(), Options{}); err != nil {
		t.Fatal(err)
	}
	if p, err := m.Kernel.Livepatch("first"); err != nil || !p.Enabled {
		t.Fatal(p, err)
	}
}

// A damaged journal is nothing to act on.
func TestDamagedJournal(t *testing.T) {
	m := newMachine(t)
	m.mustApply(first())
	text, err := os.ReadFile(m.journalPath())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(m.journalPath(), append([]byte("{\"change\n"), text...), 0o600); err != nil {
		t.Fatal(err)
	}
	for what, f := range map[string]func() error{
		"recover":  func() error { _, err := m.Recover(t.Context(), Options{}); return err },
		"boot":     func() error { _, err := m.Boot(t.Context(), Options{}); return err },
		"rollback": func() error { _, err := m.Rollback(t.Context(), "", Options{}); return err },
	} {
		if err := f(); err == nil || !strings.Contains(err.Error(), "line 1") {
			t.Errorf("%s: %v", what, err)
		}
	}
	if p, err := m.Kernel.Livepatch("first"); err != nil || !p.Enabled {
		t.Fatal(p, err)
	}
}
