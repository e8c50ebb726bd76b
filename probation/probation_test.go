// SPDX-License-Identifier: Apache-2.0

package probation

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lupatch/lupatch/internal/refuse"
	"github.com/lupatch/lupatch/kpatch"
	"github.com/lupatch/lupatch/kpatch/kpatchtest"
)

type host struct {
	*kpatchtest.Kernel
	t *testing.T
	k *kpatch.Kernel
}

func newHost(t *testing.T) host {
	fake := kpatchtest.New(t.TempDir())
	return host{fake, t, &kpatch.Kernel{Root: fake.Root, Sys: fake}}
}

func (h host) open(opt Options) *Watch {
	w := Open(h.k, opt)
	h.t.Cleanup(w.Close)
	w.Add(ofModule)
	return w
}

// warn prints a warning in a function.
func (h host) warn(function string) {
	for _, l := range []string{"------------[ cut here ]------------", "WARNING: CPU: 0 PID: 9 at f.c:1 " + function, "CPU: 0 PID: 9 Comm: cat Not tainted 6.1", "RIP: 0010:" + function,
		"Call Trace:", " <TASK>", " entry_SYSCALL_64_after_hwframe+0x1/0x2", " </TASK>", "---[ end trace 0000000000000000 ]---"} {
		h.Log("%s", l)
	}
}

func (h host) run(w *Watch) (*Outcome, *Failure) {
	h.t.Helper()
	out, err := w.Run(h.t.Context())
	f, ok := Of(err)
	if (err != nil) != ok || (out == nil) != ok {
		h.t.Fatalf("%+v, %v", out, err)
	}
	return out, f
}

const short = 600 * time.Millisecond

func TestNothingHappens(t *testing.T) {
	h := newHost(t)
	h.warn("old+0x1/0x2 [e1000]") // before the watch
	begin := time.Now()
	out, f := h.run(h.open(Options{For: short}))
	if f != nil || len(out.Reports) != 0 || len(out.Taint) != 0 || len(out.Blind) != 0 || out.Lost != 0 {
		t.Fatalf("%+v %v", out, f)
	}
	if d := time.Since(begin); d < short || out.Watched < short {
		t.Fatalf("it lasted %s and says %s", d, out.Watched)
	}
}

func TestUnrelated(t *testing.T) {
	h := newHost(t)
	w := h.open(Options{For: short})
	for range 3 {
		h.warn("other_fn+0x1/0x2 [other]")
	}
	const warned, oops = 1 << 9, 1 << 7
	h.Taint(warned | oops | uint64(kpatch.TaintOfLoading))
	out, f := h.run(w)
	if f != nil || len(out.Reports) != 1 || out.Reports[0].Times != 3 || len(out.Taint) != 2 || out.Taint[0].Letter != "D" {
		t.Fatalf("%+v %v", out, f)
	}
	text := strings.Join(out.Text(), "\n")
	for _, want := range []string{"not attributed to the update: a warning in other_fn [other] (task cat, 9)", "(3 times)", "  | RIP: 0010:other_fn", "tainted W"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in %s", want, text)
		}
	}
}

// What is attributed ends the probation at once, with all of its lines.
func TestAttributed(t *testing.T) {
	h := newHost(t)
	w := h.open(Options{For: time.Hour})
	h.warn("other_fn+0x1/0x2 [other]")
	time.AfterFunc(interval, func() { h.warn("e1000_up+0x1/0x2 [fix_mtu__2]") })
	_, f := h.run(w)
	if f == nil || len(f.Reports) != 1 || len(f.Reports[0].Lines) != 9 || f.During != "probation" || f.After <= 0 || len(f.Seen.Reports) != 1 {
		t.Fatalf("%+v", f)
	}
	want := "probation failed: a warning in e1000_up [fix_mtu__2] (task cat, 9): WARNING: CPU: 0 PID: 9 at f.c:1 e1000_up+0x1/0x2 [fix_mtu__2]; e1000_up [fix_mtu__2] is code of the update"
	if f.Error() != want {
		t.Errorf("%s", f.Error())
	}
	b, err := json.Marshal(f)
	if err != nil || !strings.Contains(string(b), `"blame":[{"update":"fix_mtu","why":"e1000_up [fix_mtu__2] is code of the update"}]`) {
		t.Errorf("%s, %v", b, err)
	}
	if text := strings.Join(f.Text(), "\n"); !strings.Contains(text, "attributed to fix_mtu") || !strings.Contains(text, "also seen") {
		t.Errorf("%s", text)
	}
}

// A report that is seen before probation proper is a failure too.
func TestDuringTransition(t *testing.T) {
	h := newHost(t)
	w := h.open(Options{For: time.Hour})
	h.warn("e1000_up+0x1/0x2 [e1000]")
	select {
	case <-w.Failed():
	case <-time.After(10 * time.Second):
		t.Fatal("nothing was noticed")
	}
	if f := w.Failure(); f.During == "probation" || f.After != 0 || !strings.Contains(f.Error(), "during loading and transition") {
		t.Fatalf("%+v", f)
	}
	if _, f := h.run(w); f == nil {
		t.Fatal("it passed")
	}
}

// A report of which the end is not printed counts when nothing more comes.
func TestUnfinishedReport(t *testing.T) {
	h := newHost(t)
	w := h.open(Options{For: interval})
	h.Log("BUG: kernel NULL pointer dereference, address: 0000000000000000")
	h.Log("RIP: 0010:e1000_up+0x1/0x2 [fix_mtu__2]")
	if _, f := h.run(w); f == nil || f.Reports[0].Kind != Oops {
		t.Fatalf("%+v", f)
	}
}

func TestInterrupted(t *testing.T) {
	h := newHost(t)
	w := h.open(Options{For: time.Hour})
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(interval, cancel)
	if _, err := w.Run(ctx); !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "probation") {
		t.Fatal(err)
	}
}

// Tasks that sleep in the update, or in its unit, and never run; one that runs
// now and then; one that slept before; one that sleeps elsewhere.
func TestBlockedTasks(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	task := func(pid int, frame string) kpatchtest.Task {
		return kpatchtest.Task{PID: pid, Comm: "dd", State: 'D', Stack: []string{"schedule", frame, "entry_SYSCALL_64_after_hwframe"}}
	}
	h.AddTask(task(10, "e1000_reset [e1000]"))
	w := h.open(Options{For: hungMin + 2*blockedEvery})
	wakes := task(11, "e1000_up [fix_mtu__2]")
	h.AddTask(wakes)
	time.AfterFunc(hungMin, func() { wakes.Switches++; h.AddTask(wakes) })
	h.AddTask(task(12, "nfs_wait [nfs]"))
	h.AddTask(task(13, "e1000_reset [e1000]"))
	h.AddTask(task(14, "e1000_up [fix_mtu__2]"))
	_, f := h.run(w)
	if f == nil || len(f.Reports) != 2 {
		t.Fatalf("%+v", f)
	}
	slices.SortFunc(f.Reports, func(a, b *Report) int { return a.PID - b.PID })
	for i, want := range []string{"a hung task in e1000_reset [e1000] (task dd, 13)", "a hung task in e1000_up [fix_mtu__2] (task dd, 14)"} {
		if got := f.Reports[i].String(); !strings.Contains(got, want) {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestHealth(t *testing.T) {
	h := newHost(t)
	count := filepath.Join(t.TempDir(), "count")
	opt := Options{For: short, Health: []string{"echo x >> " + count, "true"}, HealthEvery: short / 3}
	if err := opt.Healthy(t.Context()); err != nil {
		t.Fatal(err)
	}
	out, f := h.run(h.open(opt))
	b, _ := os.ReadFile(count)
	// Before, at the beginning, at least once between, at the end.
	if f != nil || out.Checks < 3 || strings.Count(string(b), "x") != out.Checks+1 {
		t.Fatalf("%+v %v, %d runs", out, f, strings.Count(string(b), "x"))
	}
}

func TestHealthFails(t *testing.T) {
	for name, c := range map[string]struct{ command, reason, last string }{
		"status":   {"echo one; echo two >&2; exit 3", "status 3", "two"},
		"signal":   {"echo x; kill -9 $$", "signal: killed", "x"},
		"time-out": {"echo waiting; sleep 1000", "no answer after 1s", "waiting"},
		"children": {"echo waiting; (sleep 1000) & wait", "no answer after 1s", "waiting"},
		"missing":  {"/no/such/command", "status 127", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHost(t)
			opt := Options{For: time.Hour, Health: []string{"true", c.command}, HealthTimeout: time.Second}
			begin := time.Now()
			_, f := h.run(h.open(opt))
			if f == nil || f.Health == nil || f.Health.Reason != c.reason || f.Health.Command != c.command {
				t.Fatalf("%+v", f)
			}
			if n := len(f.Health.Output); c.last != "" && (n == 0 || f.Health.Output[n-1] != c.last) {
				t.Errorf("%q", f.Health.Output)
			}
			if time.Since(begin) > 10*time.Second {
				t.Error("it was waited for")
			}
			err := opt.Healthy(t.Context())
			if e, ok := refuse.As(err); !ok || e.ID != refuse.HealthCheck || !strings.Contains(e.Detail, c.reason) {
				t.Errorf("before loading: %v", err)
			}
		})
	}
}

// What a command leaves running is no failure, and long output is cut.
func TestHealthOutput(t *testing.T) {
	if f := runCheck(t.Context(), "sleep 3 & exit 0", 5*time.Second); f != nil {
		t.Error(f)
	}
	f := runCheck(t.Context(), "i=0; while [ $i -lt 5000 ]; do echo line $i; i=$((i+1)); done; exit 1", 20*time.Second)
	if f == nil || len(f.Output) != tailLines || f.Output[tailLines-1] != "line 4999" {
		t.Errorf("%+v", f)
	}
}

// The kernel's counters tell of what the log does not.
func TestUncounted(t *testing.T) {
	h := newHost(t)
	dir := h.k.Path("/sys/kernel")
	set := func(oopses, warnings string) {
		for name, n := range map[string]string{"oops_count": oopses, "warn_count": warnings} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(n+"\n"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	set("1", "5")
	w := h.open(Options{For: short})
	h.warn("other_fn+0x1/0x2 [other]")
	set("2", "6")
	out, f := h.run(w)
	if f != nil || len(out.Reports) != 2 || out.Reports[1].Kind != Uncounted || !strings.Contains(out.Reports[1].Title, "counted 1 Oopses, 0 of them were read") {
		t.Fatalf("%+v %v", out, f)
	}
}
