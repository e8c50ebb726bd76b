// SPDX-License-Identifier: Apache-2.0

package update_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lupatch/lupatch/internal/journal"
	"github.com/lupatch/lupatch/internal/manifest"
	"github.com/lupatch/lupatch/internal/refuse"
	"github.com/lupatch/lupatch/kpatch"
	"github.com/lupatch/lupatch/kpatch/kpatchtest"
	"github.com/lupatch/lupatch/update"
)

type host struct {
	*update.Host
	t    *testing.T
	fake *kpatchtest.Kernel
}

func newHost(t *testing.T) *host {
	fake := kpatchtest.New(t.TempDir())
	return &host{update.NewHost(&kpatch.Kernel{Root: fake.Root, Sys: fake}), t, fake}
}

func (h *host) file(m *manifest.Manifest) string {
	h.t.Helper()
	path := filepath.Join(h.t.TempDir(), m.Name+".ko")
	if err := os.WriteFile(path, kpatchtest.Module(m), 0o600); err != nil {
		h.t.Fatal(err)
	}
	return path
}

func (h *host) apply(m *manifest.Manifest, opt update.Options) ([]update.Result, error) {
	h.t.Helper()
	return h.Apply(h.t.Context(), []string{h.file(m)}, opt)
}

func (h *host) mustApply(m *manifest.Manifest) update.Result {
	h.t.Helper()
	r, err := h.apply(m, update.Options{})
	if err != nil {
		h.t.Fatal(err)
	}
	return r[0]
}

// clean checks that nothing of any update is left on the host.
func (h *host) clean() {
	h.t.Helper()
	list, err := h.Kernel.List(h.t.Context())
	if err != nil || len(list) != 0 {
		h.t.Errorf("livepatches %+v, %v", list, err)
	}
	mods, err := h.Kernel.Modules()
	if err != nil || len(mods) != 1 {
		h.t.Errorf("modules %+v, %v", mods, err)
	}
	if kept, _ := filepath.Glob(h.Store.Dir + "/*"); len(kept) != 0 {
		h.t.Errorf("store %v", kept)
	}
}

// journal gives the steps of the journal as "step state".
func (h *host) journal() (out []string) {
	h.t.Helper()
	list, err := journal.Read(h.Kernel.Path(update.JournalPath))
	if err != nil {
		h.t.Fatal(err)
	}
	for _, r := range list {
		out = append(out, strings.TrimSpace(r.Step+" "+string(r.State)))
	}
	return out
}

func refused(t *testing.T, err error, id refuse.ID, part string) {
	t.Helper()
	e, ok := refuse.As(err)
	if !ok || e.ID != id || !strings.Contains(e.Error(), part) {
		t.Fatalf("error is %v, want a refusal %s that says %q", err, id, part)
	}
}

func fix() *manifest.Manifest {
	return kpatchtest.Manifest("fix_mtu", "e1000", "e1000_change_mtu")
}

var blocker = kpatchtest.Task{PID: 7, Comm: "dd", Sticky: true, Stack: []string{"msleep", "e1000_change_mtu [e1000]", "entry_SYSCALL_64_after_hwframe"}}

func TestApplyRollback(t *testing.T) {
	h := newHost(t)
	h.mustApply(fix())
	s, err := h.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(s.Updates) != 1 || s.Updates[0].State != update.StateApplied || time.Since(s.Updates[0].Since) > time.Minute {
		t.Fatalf("%+v", s.Updates)
	}
	if d := cmp.Diff([]update.UnitStatus{{Unit: "e1000", Version: 1, BuildID: kpatchtest.BuildID("e1000")}}, s.Units); d != "" {
		t.Fatal(d)
	}
	r, err := h.Rollback(t.Context(), "", update.Options{})
	if err != nil || len(r) != 1 || r[0].Update != "fix_mtu" || r[0].Resident != "" {
		t.Fatalf("%+v, %v", r, err)
	}
	h.clean()
	want := []string{"begin", "checked begin", "checked done", "staged begin", "staged done", "predicted begin", "predicted done", "loading begin", "loading done", "transition begin", "transition done", "committed",
		"begin", "disabling begin", "disabling done", "transition begin", "transition done", "unloading begin", "unloading done", "committed"}
	if d := cmp.Diff(want, h.journal()); d != "" {
		t.Fatal(d)
	}
	_, err = h.Rollback(t.Context(), "", update.Options{})
	refused(t, err, refuse.NotApplied, "no update")
}

func TestDryRunWritesNothing(t *testing.T) {
	h := newHost(t)
	if _, err := h.apply(fix(), update.Options{DryRun: true}); err != nil {
		t.Fatal(err)
	}
	h.clean()
	if _, err := os.Stat(h.Kernel.Path(update.JournalPath)); !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
}

func TestTimeoutReverses(t *testing.T) {
	h := newHost(t)
	h.fake.AddTask(blocker)
	var seen []string
	_, err := h.apply(fix(), update.Options{Deadline: 150 * time.Millisecond, Progress: func(e update.Event) {
		if e.Transition != nil && e.State == journal.Begin {
			seen = append(seen, kpatch.Names(e.Transition.Remaining))
		}
	}})
	refused(t, err, refuse.TransitionReversed, "dd (7) in msleep < e1000_change_mtu [e1000]")
	if len(seen) == 0 || !strings.Contains(seen[0], "dd (7)") {
		t.Errorf("progress named %q", seen)
	}
	h.clean()
	j := h.journal()
	want := []string{"transition failed", "loading undo", "loading undone", "staged undo", "staged undone", "aborted"}
	if d := cmp.Diff(want, j[len(j)-len(want):]); d != "" {
		t.Fatal(d)
	}
}

func TestInterruptReverses(t *testing.T) {
	h := newHost(t)
	h.fake.AddTask(blocker)
	ctx, cancel := context.WithCancel(t.Context())
	_, err := h.Apply(ctx, []string{h.file(fix())}, update.Options{Progress: func(e update.Event) {
		if e.Transition != nil {
			cancel()
		}
	}})
	if !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "dd (7)") {
		t.Fatal(err)
	}
	h.clean()
}

func TestRollbackTimeoutKeepsTheUpdate(t *testing.T) {
	h := newHost(t)
	h.mustApply(fix())
	h.fake.AddTask(blocker)
	_, err := h.Rollback(t.Context(), "fix_mtu", update.Options{Deadline: 150 * time.Millisecond})
	refused(t, err, refuse.TransitionReversed, "dd (7)")
	s, err := h.Status(t.Context())
	if err != nil || len(s.Updates) != 1 || s.Updates[0].State != update.StateApplied {
		t.Fatalf("%+v, %v", s, err)
	}
	h.fake.Free(7)
	if _, err := h.Rollback(t.Context(), "fix_mtu", update.Options{}); err != nil {
		t.Fatal(err)
	}
}

// Several are taken back, the newest first. If one cannot be, those above it are
// back, it and those below it are in force, and the refusal says so.
func TestRollbackOfSeveral(t *testing.T) {
	h := newHost(t)
	var all []*manifest.Manifest
	for _, name := range []string{"u1", "u2", "u3", "u4"} {
		m := kpatchtest.On(kpatchtest.Manifest(name, "e1000", "e1000_up"), all...)
		all = append(all, m)
		h.mustApply(m)
	}
	_, err := h.Rollback(t.Context(), "u2", update.Options{})
	refused(t, err, refuse.NotNewest, "u4, u3 stand on it")
	blocked := update.Options{Later: true, Deadline: 150 * time.Millisecond, Progress: func(e update.Event) {
		if e.Update == "u3" && e.Step == "disabling" && e.State == journal.Begin {
			h.fake.AddTask(blocker)
		}
	}}
	_, err = h.Rollback(t.Context(), "u2", blocked)
	refused(t, err, refuse.TransitionReversed, "taken back before it: u4")
	s, err := h.Status(t.Context())
	if err != nil || len(s.Updates) != 3 || s.Units[0].Version != 3 || s.Updates[0].State != update.StateApplied {
		t.Fatalf("%+v, %v", s, err)
	}
	h.fake.Free(7)
	list, err := h.Rollback(t.Context(), "u2", update.Options{Later: true})
	if err != nil || len(list) != 2 || list[0].Update != "u3" || list[1].Update != "u2" {
		t.Fatalf("%+v, %v", list, err)
	}
	// The version below is in force, and can be built upon again.
	if s, err = h.Status(t.Context()); err != nil || s.Units[0].Version != 1 {
		t.Fatalf("%+v, %v", s, err)
	}
	h.mustApply(all[1])
	if _, err := h.Rollback(t.Context(), "u1", update.Options{Later: true}); err != nil {
		t.Fatal(err)
	}
	h.clean()
	ids := map[string]bool{}
	records, err := journal.Read(h.Kernel.Path(update.JournalPath))
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range records {
		if r.Step == "" && r.State == journal.Begin {
			if ids[r.Change] {
				t.Errorf("two changes are called %s", r.Change)
			}
			ids[r.Change] = true
		}
	}
}

// Interrupted at the moment in which the transition has ended: there is no way
// back, so the rollback is finished.
func TestRollbackFinishesBehindThePoint(t *testing.T) {
	h := newHost(t)
	h.mustApply(fix())
	ctx, cancel := context.WithCancel(t.Context())
	_, err := h.Rollback(ctx, "", update.Options{Progress: func(e update.Event) {
		if e.Step == "transition" && e.State == journal.Done {
			cancel()
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	h.clean()
}

func TestLoadFailureLeavesNothing(t *testing.T) {
	h := newHost(t)
	h.fake.FailLoad(syscall.EINVAL, "fix_mtu: e1000_change_mtu is not what was verified")
	_, err := h.apply(fix(), update.Options{})
	refused(t, err, refuse.LoadRefused, "is not what was verified")
	h.clean()
}

func TestAllOrNothing(t *testing.T) {
	h := newHost(t)
	second := kpatchtest.Manifest("second", "e1000", "e1000_up")
	kpatchtest.On(second, fix())
	files := []string{h.file(fix()), h.file(second)}
	// Checked together: the second needs what the first gives.
	if _, err := h.Apply(t.Context(), files, update.Options{DryRun: true}); err != nil {
		t.Fatal(err)
	}
	_, err := h.Apply(t.Context(), []string{files[1], files[0]}, update.Options{})
	refused(t, err, refuse.WrongVersion, "stands on the update fix_mtu, which is not applied")
	h.clean()
	// The second fails when it is loaded: the first goes too.
	_, err = h.Apply(t.Context(), files, update.Options{Progress: func(e update.Event) {
		if e.Update == "second" && e.Step == "loading" && e.State == journal.Begin {
			h.fake.FailLoad(syscall.ENOENT)
		}
	}})
	refused(t, err, refuse.LoadRefused, "symbol")
	h.clean()
	h.fake.FailLoad(0)
	if _, err := h.Apply(t.Context(), files, update.Options{}); err != nil {
		t.Fatal(err)
	}
	_, err = h.Rollback(t.Context(), "fix_mtu", update.Options{})
	refused(t, err, refuse.NotNewest, "second")
	for range 2 {
		if _, err := h.Rollback(t.Context(), "", update.Options{}); err != nil {
			t.Fatal(err)
		}
	}
	h.clean()
}

// An update whose addresses escape stays in memory when it is taken back, and
// is applied again as a further generation of the same update.
func TestGenerations(t *testing.T) {
	h := newHost(t)
	m := fix()
	m.Escapes = []string{"work item in e1000_change_mtu"}
	for n, module := range []string{"fix_mtu", "fix_mtu__2", "fix_mtu__3"} {
		if r := h.mustApply(m); r.Module != module {
			t.Fatal(r.Module)
		}
		_, err := h.apply(m, update.Options{})
		refused(t, err, refuse.AlreadyApplied, module)
		r, err := h.Rollback(t.Context(), "fix_mtu", update.Options{})
		if err != nil || !strings.Contains(r[0].Resident, "work item") {
			t.Fatalf("%+v, %v", r, err)
		}
		s, err := h.Status(t.Context())
		if err != nil || len(s.Updates) != 0 || len(s.Resident) != n+1 || len(s.Foreign) != 0 {
			t.Fatalf("%+v, %v", s, err)
		}
		if u := s.Resident[0]; u.Update != "fix_mtu" || u.Generation != n+1 || u.State != update.StateResident {
			t.Fatalf("%+v", u)
		}
	}
}

// A copy that had to stay because of a sleeping task goes when that has left.
func TestResidentIsCleared(t *testing.T) {
	h := newHost(t)
	h.mustApply(fix())
	h.fake.AddTask(kpatchtest.Task{PID: 9, Comm: "cat", Stack: []string{"msleep", "helper [fix_mtu]", "entry_SYSCALL_64_after_hwframe"}})
	r, err := h.Rollback(t.Context(), "", update.Options{})
	if err != nil || !strings.Contains(r[0].Resident, "cat (9)") {
		t.Fatalf("%+v, %v", r, err)
	}
	if r := h.mustApply(fix()); r.Module != "fix_mtu__2" {
		t.Fatal(r.Module)
	}
	if _, err := h.Rollback(t.Context(), "", update.Options{}); err != nil {
		t.Fatal(err)
	}
	h.fake.AddTask(kpatchtest.Task{PID: 9, Comm: "cat", Stack: []string{"entry_SYSCALL_64_after_hwframe"}})
	if r := h.mustApply(fix()); r.Module != "fix_mtu" {
		t.Fatal(r.Module)
	}
}

func TestNamesOfOthers(t *testing.T) {
	h := newHost(t)
	h.fake.AddModule("fix_mtu", kpatchtest.BuildID("someone's"))
	_, err := h.apply(fix(), update.Options{})
	refused(t, err, refuse.LoadRefused, "not lupatch's")
	signed := filepath.Join(t.TempDir(), "signed.ko")
	m := kpatchtest.Manifest("signed", "e1000", "f")
	m.Escapes = []string{"x"}
	if err := os.WriteFile(signed, kpatchtest.Sign(kpatchtest.Module(m)), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := h.Apply(t.Context(), []string{signed}, update.Options{}); err != nil {
		t.Fatal(err)
	}
	if _, err := h.Rollback(t.Context(), "signed", update.Options{}); err != nil {
		t.Fatal(err)
	}
	h.put("/sys/module/module/parameters/sig_enforce", "Y\n")
	_, err = h.Apply(t.Context(), []string{signed}, update.Options{})
	refused(t, err, refuse.LoadRefused, "breaks its signature")
	h.put("/sys/module/module/parameters/sig_enforce", "N\n")
	r, err := h.Apply(t.Context(), []string{signed}, update.Options{})
	if err != nil || r[0].Module != "signed__2" {
		t.Fatal(r, err)
	}
}

func TestOneAtATime(t *testing.T) {
	h := newHost(t)
	h.fake.AddTask(blocker)
	_, err := h.apply(fix(), update.Options{Progress: func(e update.Event) {
		if e.Transition == nil {
			return
		}
		_, err := h.Rollback(t.Context(), "", update.Options{})
		refused(t, err, refuse.KernelBusy, "another lupatch")
		h.fake.Free(7)
	}})
	if err != nil {
		t.Fatal(err)
	}
}

func TestStatusWhileApplying(t *testing.T) {
	h := newHost(t)
	h.fake.AddTask(blocker)
	late := kpatchtest.Manifest("late", "r8169", "rtl_open")
	if err := h.Store.Put("late", kpatchtest.Module(late)); err != nil {
		t.Fatal(err)
	}
	if err := h.Kernel.Load(t.Context(), kpatchtest.Module(late), ""); err != nil {
		t.Fatal(err)
	}
	s, err := h.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if u := s.Updates[0]; u.State != update.StateApplying || !u.Units[0].Waiting || !u.Since.IsZero() {
		t.Fatalf("%+v", u)
	}
	if s.Transition == nil || len(s.Transition.Remaining) != 1 {
		t.Fatalf("%+v", s.Transition)
	}
}
