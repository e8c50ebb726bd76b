// SPDX-License-Identifier: Apache-2.0

package live

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lupatch/lupatch/internal/evidence/record"
	"github.com/lupatch/lupatch/internal/lab"
	"github.com/lupatch/lupatch/internal/lab/labtest"
	"github.com/lupatch/lupatch/internal/sample"
	lupatch "github.com/lupatch/lupatch/update"
)

// crashTable names the tables that a run of all points fills, with a % for kill or
// power; see the Makefile. Without it a sample is tried.
const crashTable = "LUPATCH_EVIDENCE_CRASH"

// interrupted is a command that is ended at each record of the journal, just before
// and just behind it.
type interrupted struct {
	name string
	// base are the updates in force before, the oldest first; given are the files
	// of an apply, none for a rollback of the newest.
	base, given []built
	options     []string
	// sleeper has a task sleep where the update wants to change something, so that
	// it is taken back.
	sleeper bool
	// seen tells the versions apart, old and new, see says.
	old, new int
}

func interruptions(t *testing.T) []interrupted {
	var chain []built
	for v := 1; v <= 3; v++ {
		chain = append(chain, step(t, v, chain...))
	}
	all := step(t, cumulative, chain...)
	return []interrupted{
		{name: "apply", given: chain[:1], old: 0, new: 1},
		{name: "rollback", base: chain[:2], old: 2, new: 1},
		{name: "cumulative apply", base: chain, given: []built{all}, old: 3, new: cumulative},
		{name: "cumulative rollback", base: append(slices.Clone(chain), all), old: cumulative, new: 3},
		{name: "reversed apply", given: []built{update(t, "shipped")}, options: []string{"--deadline", "1s"}, sleeper: true},
		{name: "apply two", given: chain[:2], old: 0, new: 2},
	}
}

func names(list []built) (out []string) {
	for _, b := range list {
		out = append(out, b.name)
	}
	return out
}

// after is what is in force if the command succeeds.
func (c *interrupted) after() []built {
	switch {
	case c.sleeper:
		return c.base
	case len(c.given) > 0:
		return append(slices.Clone(c.base), c.given...)
	}
	return c.base[:len(c.base)-1]
}

// crashing is lupatch with its crash points.
func crashing(t *testing.T) string {
	return made.get(t, "lupatch-crashpoints", func(ctx context.Context, dir string) (string, error) {
		bin := filepath.Join(dir, "lupatch")
		cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-tags", "crashpoints", "-o", bin, "../../cmd/lupatch")
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			return "", fmt.Errorf("%w\n%s", err, out)
		}
		return bin, nil
	})
}

// crashHost is a host whose /var/lib/lupatch is on a disk that outlives it.
type crashHost struct {
	guest
	image string
	boots int
}

// ext4 makes the image of a disk, all of which root may fill.
func ext4(t *testing.T, size string) string {
	t.Helper()
	image := filepath.Join(t.TempDir(), "disk")
	if out, err := exec.Command("mkfs.ext4", "-q", "-m", "0", image, size).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return image
}

func newCrashHost(t *testing.T, cases []interrupted) *crashHost {
	h := &crashHost{image: ext4(t, "32M"), guest: guest{nil, t}}
	h.power(cases)
	return h
}

// power boots it, again.
func (h *crashHost) power(cases []interrupted) {
	h.t.Helper()
	conf := lab.Config{CPUs: 2, Disks: []lab.Disk{{Model: "virtio", Image: h.image}}, Modules: []string{"ext4"},
		Files: []lab.File{{Path: "/root/lutarget.ko", Host: target(h.t)}, {Path: "/root/lupatch-crash", Host: crashing(h.t), Mode: 0o755}}}
	here := map[string]bool{}
	for _, c := range cases {
		for _, b := range append(slices.Clone(c.base), c.given...) {
			if path := "/root/" + b.name + ".ko"; !here[path] {
				here[path] = true
				conf.Files = append(conf.Files, lab.File{Path: path, Data: b.image})
			}
		}
	}
	if h.Host != nil {
		h.Close()
	}
	h.guest = guest{labtest.Boot(h.t, conf), h.t}
	h.boots++
	h.sh("mkdir -p /var/lib/lupatch && mount -t ext4 /dev/vda /var/lib/lupatch && insmod /root/lutarget.ko")
}

func paths(list []built) (out []string) {
	for _, b := range list {
		out = append(out, "/root/"+b.name+".ko")
	}
	return out
}

// is says what is in force, and makes sure that kernel, store and journal agree.
func (h *crashHost) is() (inForce []string, err error) {
	h.t.Helper()
	s := h.status()
	for _, u := range slices.Backward(s.Updates) {
		if u.State != lupatch.StateApplied {
			return nil, fmt.Errorf("%s is %s", u.Update, u.State)
		}
		inForce = append(inForce, u.Update)
	}
	var stored []string
	for _, f := range strings.Fields(h.sh("ls /var/lib/lupatch/updates/" + labtest.Release + " 2>/dev/null || true")) {
		stored = append(stored, strings.TrimSuffix(f, ".ko"))
	}
	sorted := slices.Sorted(slices.Values(inForce))
	switch {
	case len(s.Open)+len(s.Foreign)+len(s.Resident)+len(s.Damaged)+len(s.Missing) > 0:
		return nil, fmt.Errorf("open %v, foreign %v, resident %v, damaged %v, missing %v", s.Open, s.Foreign, s.Resident, s.Damaged, s.Missing)
	case !slices.Equal(s.AfterBoot, inForce):
		return nil, fmt.Errorf("in force are %v, the next boot applies %v", inForce, s.AfterBoot)
	case !slices.Equal(stored, sorted):
		return nil, fmt.Errorf("in force are %v, stored are %v", inForce, stored)
	}
	return inForce, nil
}

// check wants the host to be in the old or in the new version.
func (h *crashHost) check(c *interrupted) (version string, err error) {
	h.t.Helper()
	inForce, err := h.is()
	if err != nil {
		return "", err
	}
	shown := h.show("value")
	switch {
	case slices.Equal(inForce, names(c.base)) && shown == says(c.old):
		return "old", nil
	case slices.Equal(inForce, names(c.after())) && shown == says(c.new):
		return "new", nil
	}
	return "", fmt.Errorf("in force are %v, and %q is read", inForce, shown)
}

// reset brings the host to the base of a command.
func (h *crashHost) reset(c *interrupted) {
	h.t.Helper()
	inForce, err := h.is()
	if err != nil {
		h.t.Fatal(err)
	}
	want, n := names(c.base), 0
	for n < len(want) && n < len(inForce) && want[n] == inForce[n] {
		n++
	}
	if n < len(inForce) {
		h.succeed(&struct{}{}, "rollback", "--yes", inForce[n])
	}
	if n < len(want) {
		h.succeed(&struct{}{}, "apply", paths(c.base)[n:]...)
	}
	if got, err := h.is(); err != nil || !slices.Equal(got, want) {
		h.t.Fatalf("%v are in force, not %v: %v", got, want, err)
	}
}

// run runs the command and ends it at a point; 0 lets it run, and gives all points.
func (h *crashHost) run(c *interrupted, at int, by string) (points []string, r *lab.Result, err error) {
	h.t.Helper()
	argv := []string{"/root/lupatch-crash", "rollback", "--yes"}
	if len(c.given) > 0 {
		argv = append([]string{"/root/lupatch-crash", "apply", "--yes"}, paths(c.given)...)
	}
	argv = append(argv, c.options...)
	if c.sleeper {
		h.sh("echo 0 > /sys/module/lutarget/parameters/go")
		h.sleep("shipped", "shipped_show")
	}
	env := append(h.endAt(at, by), "LUPATCH_PROBATION=300ms")
	r, err = h.Run(h.t.Context(), lab.Cmd{Argv: argv, Env: env, Timeout: commandTime})
	if err != nil {
		return nil, r, err
	}
	if c.sleeper {
		h.openGate(true)
	}
	return h.points(), r, nil
}

// attempt ends the command at a point, recovers and says which version there is.
func (h *crashHost) attempt(c *interrupted, cases []interrupted, at int, by string) (version string, err error) {
	h.t.Helper()
	h.reset(c)
	_, r, err := h.run(c, at, by)
	if by == "power" {
		if !errors.Is(err, lab.ErrEnded) {
			return "", fmt.Errorf("the host did not go off: %v, %+v", err, r)
		}
		h.power(cases)
		r := h.lupatch("recover", "--boot")
		if r.Code != 0 {
			return "", fmt.Errorf("recover --boot: exit code %d\n%s%s", r.Code, r.Stdout, r.Stderr)
		}
		h.unbar()
	} else {
		if err != nil || r.Signal != 9 {
			return "", fmt.Errorf("it was not killed: %v, %+v", err, r)
		}
		if r := h.lupatch("recover"); r.Code != 0 {
			return "", fmt.Errorf("recover: exit code %d\n%s%s", r.Code, r.Stdout, r.Stderr)
		}
	}
	if version, err = h.check(c); err != nil {
		return "", err
	}
	var again struct{ Recovered []json.RawMessage }
	h.succeed(&again, "recover")
	if len(again.Recovered) > 0 {
		return "", fmt.Errorf("a second recovery found something: %s", again.Recovered)
	}
	return version, nil
}

// unbar allows what is barred by the short boots of this test, and applies it.
func (h *crashHost) unbar() {
	h.t.Helper()
	barred := h.status().Barred
	for name := range barred {
		h.succeed(&struct{}{}, "recover", "--unbar", name)
	}
	if len(barred) > 0 {
		h.succeed(&lupatch.Boot{}, "recover", "--boot")
	}
}

// TestCrash ends commands by kill -9 and by switching the host off, at points of the
// journal: after the recovery the host is in the old version or in the new one, and
// kernel, store and journal agree.
func TestCrash(t *testing.T) {
	t.Parallel()
	labtest.SkipIfShort(t)
	cases := interruptions(t)
	endedBy(t, crashTable, func(t *testing.T, by string) {
		crash(t, cases, by, allPoints(t, crashTable, by, "kernel "+labtest.Release+", lupatch ended at every record of its journal, by make evidence-crash", "boot_s"))
	})
}

func crash(t *testing.T, cases []interrupted, by string, results *record.Table) {
	h := newCrashHost(t, cases)
	// A sample has one point of one in so many commands. Power-off takes a boot for each.
	few := map[string]int{"kill": 2, "power": 4}[by]
	begin, tried, got := time.Now(), 0, map[string]int{}
	for i := range cases {
		c := &cases[i]
		if results == nil && i%few != sample.Draw(by, few) {
			continue
		}
		h.reset(c)
		points, r, err := h.run(c, 0, "")
		if err != nil || r.Code != 0 && !c.sleeper {
			t.Fatalf("%s: %v %+v", c.name, err, r)
		}
		for at := range points {
			key := fmt.Sprintf("%s %02d %s", c.name, at+1, points[at])
			if results == nil && at != sample.Draw(by+c.name, len(points)) || results != nil && results.Has(key) {
				continue
			}
			version, err := h.attempt(c, cases, at+1, by)
			if err != nil {
				t.Fatalf("%s: %v", key, err)
			}
			tried++
			got[version]++
			t.Logf("%s: %s version", key, version)
			if results != nil {
				if err := results.Put(key, version, fmt.Sprintf("%.1f", h.BootTime.Seconds())); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	t.Logf("%d points in %v, %d boots: %v", tried, time.Since(begin).Round(time.Second), h.boots, got)
	if tried == 0 && results == nil {
		t.Error("no point was drawn")
	}
}
