// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/urfave/cli/v2"

	"github.com/lupatch/lupatch/internal/journal"
	"github.com/lupatch/lupatch/internal/manifest"
	"github.com/lupatch/lupatch/internal/refuse"
	"github.com/lupatch/lupatch/kpatch"
	"github.com/lupatch/lupatch/kpatch/kpatchtest"
	"github.com/lupatch/lupatch/update"
)

// terminal gives a host whose user sits at a terminal and types the answer.
func terminal(t *testing.T, answer string) (h *host, out, errs *bytes.Buffer) {
	t.Setenv("LUPATCH_PROBATION", "0")
	fake := kpatchtest.New(t.TempDir())
	k := &kpatch.Kernel{Root: fake.Root, Sys: fake}
	out, errs = new(bytes.Buffer), new(bytes.Buffer)
	return &host{kernel: k, doctor: testDoctor(k), in: strings.NewReader(answer), out: out, err: errs, inTerminal: true, errTerminal: true}, out, errs
}

func writeUpdate(t *testing.T) string {
	t.Helper()
	m := kpatchtest.Manifest("fix_mtu", "e1000", "e1000_change_mtu")
	m.Review = []string{"locking differs"}
	path := filepath.Join(t.TempDir(), "fix_mtu.ko")
	if err := os.WriteFile(path, kpatchtest.Module(m), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestAsking(t *testing.T) {
	file := writeUpdate(t)
	for _, c := range []struct {
		answer string
		args   []string
		code   int
		asked  bool
	}{
		{"y\n", []string{"apply", file}, exitOK, true},
		{"YES\n", []string{"apply", file}, exitOK, true},
		{"n\n", []string{"apply", file}, exitFailure, true},
		{"", []string{"apply", file}, exitFailure, true},
		{"", []string{"apply", file, "--yes"}, exitOK, false},
		{"", []string{"apply", file, "--json"}, exitOK, false},
		{"", []string{"apply", file, "-n"}, exitOK, false},
	} {
		h, _, errs := terminal(t, c.answer)
		if code := run(h, append([]string{"lupatch"}, c.args...)); code != c.code {
			t.Errorf("%q to %q: exit code %d: %s", c.answer, c.args, code, errs)
		}
		if asked := strings.Contains(errs.String(), "  review: locking differs\nApply? [y/N]"); asked != c.asked {
			t.Errorf("%q: asked %v: %q", c.args, asked, errs)
		}
		list, err := h.kernel.List(t.Context())
		if want := c.code == exitOK && c.args[len(c.args)-1] != "-n"; err != nil || (len(list) == 1) != want {
			t.Errorf("%q to %q: %d livepatches, %v", c.answer, c.args, len(list), err)
		}
	}
	h, _, errs := terminal(t, "y\nn\n")
	if code := run(h, []string{"lupatch", "apply", "--yes", file}); code != exitOK {
		t.Fatal(code, errs)
	}
	h.in = strings.NewReader("n\n")
	if code := run(h, []string{"lupatch", "rollback"}); code != exitFailure || !strings.Contains(errs.String(), "Take fix_mtu back?") {
		t.Error(code, errs)
	}
	h.in = strings.NewReader("y\n")
	if code := run(h, []string{"lupatch", "rollback"}); code != exitOK {
		t.Error(code, errs)
	}
}

// Who takes an older update back sees what goes with it.
func TestAskingAboutSeveral(t *testing.T) {
	h, out, errs := terminal(t, "")
	var files []string
	var below []*manifest.Manifest
	for _, name := range []string{"first", "second", "third"} {
		m := kpatchtest.On(kpatchtest.Manifest(name, "e1000", "e1000_up"), below...)
		below = append(below, m)
		files = append(files, filepath.Join(t.TempDir(), name+".ko"))
		if err := os.WriteFile(files[len(files)-1], kpatchtest.Module(m), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if code := run(h, append([]string{"lupatch", "apply", "--yes"}, files...)); code != exitOK {
		t.Fatal(code, errs)
	}
	const question = "second is below others. Take back third, second, in this order? [y/N]"
	h.in = strings.NewReader("n\n")
	if code := run(h, []string{"lupatch", "rollback", "second"}); code != exitFailure || !strings.Contains(errs.String(), question) {
		t.Error(code, errs)
	}
	if list, err := h.kernel.List(t.Context()); err != nil || len(list) != 3 {
		t.Error(list, err)
	}
	out.Reset()
	h.in = strings.NewReader("y\n")
	if code := run(h, []string{"lupatch", "rollback", "second"}); code != exitOK || !takenBack.MatchString(out.String()) {
		t.Error(code, out, errs)
	}
	if list, err := h.kernel.List(t.Context()); err != nil || len(list) != 1 || list[0].Name != "first" {
		t.Error(list, err)
	}
}

// A change that could not be undone is unfinished, whatever it began with.
func TestUnfinishedIsNoRefusal(t *testing.T) {
	h, out, errs := terminal(t, "")
	app := newApp(h)
	app.Metadata[jsonKey] = true
	err := &update.UndoError{Cause: refuse.New(refuse.TransitionReversed, "x", "y"), Undo: context.DeadlineExceeded, Step: "loading", Name: "x"}
	if code := h.report(app, err); code != exitUnfinished || !strings.Contains(out.String(), `"unfinished"`) || !strings.Contains(errs.String(), "not finished") {
		t.Error(code, out, errs)
	}
	if code := h.report(app, cli.Exit("", 42)); code != 42 {
		t.Error(code)
	}
}

// Every command has help with examples, --json (where it has an output of its
// own), and one description of each flag.
func TestHelp(t *testing.T) {
	h, out, _ := terminal(t, "")
	for _, c := range newApp(h).Commands {
		if c.Hidden {
			continue // lupatch starts it itself
		}
		out.Reset()
		if code := run(h, []string{"lupatch", c.Name, "--help"}); code != exitOK {
			t.Errorf("%s --help: exit code %d", c.Name, code)
		}
		text := strings.ToLower(out.String())
		if !strings.Contains(text, "examples:") || !strings.Contains(text, "lupatch "+c.Name) {
			t.Errorf("%s has no examples in its help:\n%s", c.Name, out)
		}
		if len(c.Subcommands) == 0 && !strings.Contains(text, "--json") {
			t.Errorf("%s has no --json", c.Name)
		}
	}
}

// takenBack may say how long tasks were waited for.
var takenBack = regexp.MustCompile(`^third: taken back.*\nsecond: taken back.*\n$`)

func TestPermute(t *testing.T) {
	h, _, _ := terminal(t, "")
	for in, want := range map[string]string{
		"":                               "",
		"--debug":                        "--debug",
		"status":                         "status",
		"apply a --json b":               "apply --json a b",
		"apply a --deadline 5s b -y":     "apply --deadline 5s -y a b",
		"apply a --deadline=5s b":        "apply --deadline=5s a b",
		"apply a -- --json":              "apply a -- --json",
		"apply a --deadline":             "apply --deadline a",
		"apply --wait-quiet a -y":        "apply --wait-quiet -y a",
		"apply a --wait-quiet=5s":        "apply --wait-quiet=5s a",
		"apply - --json":                 "apply --json -",
		"--debug apply a --json":         "--debug apply --json a",
		"lab run --nic e1000 -- ls -l a": "lab run --nic e1000 -- ls -l a",
		"nothing a --json":               "nothing a --json",
	} {
		got := permute(newApp(h), append([]string{"lupatch"}, strings.Fields(in)...))
		if d := cmp.Diff(append([]string{"lupatch"}, strings.Fields(want)...), got); d != "" {
			t.Errorf("%q: %s", in, d)
		}
	}
}

func TestProgress(t *testing.T) {
	var b bytes.Buffer
	waiting := update.Event{Update: "fix", Step: "transition", State: journal.Begin, Transition: &kpatch.Progress{Tasks: 9, Remaining: []kpatch.Task{{TID: 7, Comm: strings.Repeat("x", 100)}}}}
	p := newProgress(&b, false)
	for range 3 {
		p.event(waiting)
	}
	if want := "fix: waiting for tasks, 1 of 9 remain: " + strings.Repeat("x", 100) + " (7)\n"; b.String() != want {
		t.Errorf("%q", b.String())
	}
	b.Reset()
	p = newProgress(&b, true)
	p.event(waiting)
	drawn := strings.Split(b.String(), "\r\n")
	if len(drawn) != 2 || drawn[0] != "fix: waiting for tasks, 1 of 9 remain" || len([]rune(drawn[1])) != 79 || !strings.HasSuffix(drawn[1], "…") {
		t.Errorf("%q", drawn)
	}
	// The next view is drawn over it, with a line for each of some tasks.
	const up = "\r\x1b[K\x1b[1A"
	b.Reset()
	waiting.Transition.Remaining = make([]kpatch.Task, 8)
	p.event(waiting)
	if got := b.String(); !strings.HasPrefix(got, up+"\r\x1b[Kfix: ") || strings.Count(got, "\r\n") != 6 || !strings.HasSuffix(got, "\r\n  3 more") {
		t.Errorf("%q", got)
	}
	b.Reset()
	p.event(update.Event{Update: "fix", Step: "transition", State: journal.Done})
	if b.String() != strings.Repeat(up, 6)+"\r\x1b[K" {
		t.Errorf("%q", b.String())
	}
	if took(20*time.Millisecond) != "" || took(1250*time.Millisecond) != " (all tasks after 1.3s)" {
		t.Error(took(1250 * time.Millisecond))
	}
}
