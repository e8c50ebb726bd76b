// SPDX-License-Identifier: Apache-2.0

package update_test

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lupatch/lupatch/internal/journal"
	"github.com/lupatch/lupatch/internal/refuse"
	"github.com/lupatch/lupatch/kpatch/kpatchtest"
	"github.com/lupatch/lupatch/probation"
	"github.com/lupatch/lupatch/update"
)

// warn prints a warning in a function.
func (h *host) warn(function string) {
	for _, l := range []string{"------------[ cut here ]------------", "WARNING: CPU: 0 PID: 9 at f.c:1 " + function + "+0x1/0x2", "RIP: 0010:" + function,
		"Call Trace:", " entry_SYSCALL_64_after_hwframe+0x1/0x2", "---[ end trace 0000000000000000 ]---"} {
		h.fake.Log("%s", l)
	}
}

const inFix = "e1000_change_mtu+0x1/0x2 [fix_mtu]"

// tail is the end of the journal.
func (h *host) tail(n int) []string { j := h.journal(); return j[max(0, len(j)-n):] }

// watched applies the updates with a probation of an hour; at does something when
// a step begins.
func (h *host) watched(files []string, at map[string]func()) error {
	h.t.Helper()
	_, err := h.Apply(h.t.Context(), files, update.Options{Probation: probation.Options{For: time.Hour}, Progress: func(e update.Event) {
		if f := at[e.Step]; f != nil && e.State == journal.Begin {
			delete(at, e.Step)
			f()
		}
	}})
	return err
}

func TestProbationFails(t *testing.T) {
	h := newHost(t)
	second := kpatchtest.On(kpatchtest.Manifest("second", "e1000", "e1000_up"), fix())
	files := []string{h.file(fix()), h.file(second)}
	for range 2 {
		err := h.watched(files, map[string]func(){"probation": func() { h.warn(inFix) }})
		f, ok := probation.Of(err)
		if !ok || len(f.Reports) != 1 || f.During != "probation" || len(f.Reports[0].Blame) != 1 {
			t.Fatalf("%v", err)
		}
		h.clean()
		want := []string{"transition done", "probation begin", "probation failed", "loading undo", "loading undone", "staged undo", "staged undone",
			"loading undo", "loading undone", "staged undo", "staged undone", "aborted"}
		if d := cmp.Diff(want, h.tail(len(want))); d != "" {
			t.Fatal(d)
		}
	}
	// All that were in it are barred.
	for _, f := range files {
		_, err := h.Apply(t.Context(), []string{f}, update.Options{})
		if e, ok := refuse.As(err); !ok || e.ID != refuse.Barred && e.ID != refuse.WrongVersion {
			t.Errorf("%v", err)
		}
	}
	if err := h.Unbar("fix_mtu", update.Options{}); err != nil {
		t.Fatal(err)
	}
	h.mustApply(fix())
}

// A fault in the first tasks that run the new code ends the transition at once.
func TestFaultInTransition(t *testing.T) {
	h := newHost(t)
	h.fake.AddTask(blocker)
	begin := time.Now()
	err := h.watched([]string{h.file(fix())}, map[string]func(){"transition": func() { h.warn(inFix) }})
	if f, ok := probation.Of(err); !ok || f.During == "probation" {
		t.Fatalf("%v", err)
	}
	if d := time.Since(begin); d > update.DefaultDeadline/2 {
		t.Errorf("it took %s", d)
	}
	h.clean()
	want := []string{"transition failed", "loading undo", "loading undone", "staged undo", "staged undone", "aborted"}
	if d := cmp.Diff(want, h.tail(len(want))); d != "" {
		t.Fatal(d)
	}
}

// A fault between two updates keeps the second from being loaded.
func TestFaultBetweenUpdates(t *testing.T) {
	h := newHost(t)
	other := kpatchtest.Manifest("other", "vmlinux", "vfs_read")
	begun := 0
	_, err := h.Apply(t.Context(), []string{h.file(fix()), h.file(other)}, update.Options{Probation: probation.Options{For: time.Hour}, Progress: func(e update.Event) {
		if e.Update != "other" || e.Step != "staged" || e.State != journal.Begin {
			return
		}
		begun++
		h.warn(inFix)
	}})
	if _, ok := probation.Of(err); !ok || begun != 1 {
		t.Fatalf("%v", err)
	}
	h.clean()
	for _, s := range h.journal() {
		if s == "transition begin" {
			begun++
		}
	}
	if begun != 2 {
		t.Errorf("%d transitions", begun-1)
	}
}

// Three times interrupted is no bad experience with the update; two faults are,
// wherever they were met.
func TestInterruptedOnProbation(t *testing.T) {
	h := newHost(t)
	for range 3 {
		h.interrupted()
	}
	for _, step := range []string{"transition", "probation"} {
		h.fake.AddTask(blocker)
		if step == "probation" {
			h.fake.Free(blocker.PID)
		}
		err := h.watched([]string{h.file(fix())}, map[string]func(){step: func() { h.warn(inFix) }})
		if _, ok := probation.Of(err); !ok {
			t.Fatal(step, err)
		}
	}
	_, err := h.apply(fix(), update.Options{})
	refused(t, err, refuse.Barred, "by probation 2 times")
}

func (h *host) interrupted() {
	t := h.t
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	_, err := h.Apply(ctx, []string{h.file(fix())}, update.Options{Probation: probation.Options{For: time.Hour}, Progress: func(e update.Event) {
		if e.Step == "probation" && e.State == journal.Begin {
			cancel()
		}
	}})
	if _, ok := probation.Of(err); ok || !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "on probation") {
		t.Fatal(err)
	}
	h.clean()
}

func TestProbationPasses(t *testing.T) {
	h := newHost(t)
	second := kpatchtest.On(kpatchtest.Manifest("second", "e1000", "e1000_up"), fix())
	marker := filepath.Join(t.TempDir(), "marker")
	opt := update.Options{Probation: probation.Options{For: 300 * time.Millisecond, Health: []string{"touch " + marker}}}
	r, err := h.Apply(t.Context(), []string{h.file(fix()), h.file(second)}, opt)
	if err != nil || r[0].Probation != nil || r[1].Probation == nil || r[1].Probation.Checks < 2 {
		t.Fatalf("%+v, %v", r, err)
	}
	want := []string{"probation begin", "probation done", "committed"}
	if d := cmp.Diff(want, h.tail(len(want))); d != "" {
		t.Fatal(d)
	}
	n := 0
	for _, s := range h.journal() {
		if s == "probation begin" {
			n++
		}
	}
	if n != 1 {
		t.Errorf("%d probations of one change", n)
	}
	// A dry run runs no commands.
	opt.DryRun, opt.Probation.Health = true, []string{"false"}
	if _, err := h.Apply(t.Context(), []string{h.file(kpatchtest.Manifest("third", "vmlinux", "f"))}, opt); err != nil {
		t.Fatal(err)
	}
}

// While lupatch watches, others see that it does.
func TestStatusOnProbation(t *testing.T) {
	h := newHost(t)
	var seen *update.Status
	opt := update.Options{Probation: probation.Options{For: 100 * time.Millisecond}, Progress: func(e update.Event) {
		if e.Step == "probation" && e.State == journal.Begin {
			var err error
			if seen, err = h.Status(t.Context()); err != nil {
				t.Error(err)
			}
		}
	}}
	if _, err := h.Apply(t.Context(), []string{h.file(fix())}, opt); err != nil {
		t.Fatal(err)
	}
	if seen == nil || len(seen.Updates) != 1 || seen.Updates[0].State != update.StateProbation || len(seen.Open) != 1 || !seen.Open[0].AtWork {
		t.Fatalf("%+v", seen)
	}
	if s, err := h.Status(t.Context()); err != nil || s.Updates[0].State != update.StateApplied || len(s.Open) != 0 {
		t.Fatalf("%+v, %v", s, err)
	}
}

// A kernel in which something has died owes a boot; what loading taints does not.
func TestRebootOwed(t *testing.T) {
	h := newHost(t)
	for flags, want := range map[uint64]string{0: "/", 1<<15 | 1<<12 | 1<<13: "OEK/", 1 << 9: "W/", 1<<7 | 1<<9: "DW/there was an Oops or a BUG"} {
		h.fake.Taint(flags)
		s, err := h.Status(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		for _, f := range s.Taint {
			got += f.Letter
			if f.Meaning == "" {
				t.Errorf("%+v", f)
			}
		}
		if got += "/" + strings.Join(s.RebootOwed, ""); !strings.HasPrefix(got, want) || strings.HasSuffix(want, "/") && got != want {
			t.Errorf("%#x: %q, want %q", flags, got, want)
		}
	}
}
