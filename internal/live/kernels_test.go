// SPDX-License-Identifier: Apache-2.0

package live

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lupatch/lupatch/internal/deb"
	"github.com/lupatch/lupatch/internal/lab"
	"github.com/lupatch/lupatch/internal/lab/labtest"
	"github.com/lupatch/lupatch/internal/sample"
	"github.com/lupatch/lupatch/probation"
)

// supported are the kernels of the table in the README.
var supported = []struct {
	name    string
	release func(t *testing.T) string
	// processor and cmdline make the kernel do what it does to its code on
	// some machines only.
	processor string
	cmdline   []string
}{
	{"reference", func(*testing.T) string { return labtest.Release }, "", nil},
	{"newest-6.1", func(t *testing.T) string { return newest(t, "6.1") }, "max", nil},
	{"newest-6.12-of-backports", func(t *testing.T) string { return labtest.Backport(t) }, "Skylake-Client", []string{"retbleed=stuff"}},
}

func newest(t *testing.T, series string) string {
	t.Helper()
	cache, err := deb.New("")
	if err != nil {
		t.Fatal(err)
	}
	release, _, err := cache.NewestKernel(t.Context(), series)
	if err != nil {
		t.Fatal(err)
	}
	return release
}

// TestSupportedKernels builds an example for each supported kernel, applies it,
// looks at what it does, and takes it back.
func TestSupportedKernels(t *testing.T) {
	for _, k := range supported {
		t.Run(k.name, func(t *testing.T) {
			t.Parallel()
			if !strings.Contains(k.name, "6.12") {
				sample.OnlyThorough(t, "nearly all tests run on 6.1")
			}
			labtest.SkipIfShort(t)
			release := k.release(t)
			start := time.Now()
			u, w, h := updateFor(t, release, "two"), updateFor(t, release, "warn"), updateFor(t, release, "hide")
			t.Logf("%s: built in %.0f s, %d and %d functions verified", release, time.Since(start).Seconds(), u.manifest.Units[0].Verified, u.manifest.Units[1].Verified)
			g := boot(t, lab.Config{Release: release, NICs: []lab.NIC{{Model: "e1000"}}, CPUModel: k.processor, Cmdline: k.cmdline},
				labtest.Allow(`WARNING: CPU: \d+ PID: \d+ at drivers/net/ethernet/intel/e1000/e1000_main\.c:\d+ e1000_odd_mtu`), labtest.Allow(`Call Trace:$`))
			g.sh("ip link set eth0 up")
			g.run("example", func(g guest) { smoke(g, u) })
			g.run("stack", func(g guest) { warningOnStack(g, w) })
			g.run("probation", func(g guest) { warningOnProbation(g, w) })
			g.run("user memory", func(g guest) { hiddenName(g, h) })
			g.cleanConsole(k.cmdline)
		})
	}
}

func smoke(g guest, u built) {
	e := examples[slices.IndexFunc(examples, func(e example) bool { return e.update == "two" })]
	e.check(g, false)
	g.apply(u)
	e.check(g, true)
	// Kernels that can clear relocations let a patched driver go, and patch it
	// again when it comes back; see LUPATCH_PIN_TARGETS.
	if g.sh("grep -c ' clear_relocate_add$' /proc/kallsyms || true") != "0" {
		g.rmmod("e1000")
		if err := g.Modprobe(g.t.Context(), "e1000", ""); err != nil {
			g.t.Fatal(err)
		}
		g.sh("ip link set eth0 up")
		e.check(g, true)
	}
	g.rollback()
	e.check(g, false)
	g.wantLoaded(u.name, false)
}

// warningOnStack lets new code warn: the kernel has to find its way back
// through the update.
func warningOnStack(g guest, u built) {
	g.apply(u)
	from := len(g.Console())
	g.sh(fmt.Sprintf(setMTU, 1401))
	if _, err := g.WaitConsole(g.t.Context(), regexp.MustCompile(`(?s)cut here.*end trace`)); err != nil {
		g.t.Fatal(err)
	}
	got := trace(g, g.Console()[from:])
	if len(got) < 6 || got[0] != "e1000_change_mtu" || got[len(got)-1] != "entry_SYSCALL_64_after_hwframe" || !slices.Contains(got, "vfs_write") {
		g.t.Errorf("on the stack are %q\n%s", got, g.Console()[from:])
	}
	g.rollback()
}

// warningOnProbation has the same warning take the update back: this kernel's reports
// are understood, and its tracepoint is there.
func warningOnProbation(g guest, u built) {
	check := "[ ! -e /sys/kernel/livepatch/" + u.name + " ] || { " + fmt.Sprintf(setMTU, 1403) + "; }"
	r := g.lupatch("apply", "--probation", "1m", "--health-check", check, g.file(u))
	var answer takenBack
	g.decode(r, &answer)
	b := answer.TakenBack
	if r.Code != 6 || b == nil || len(b.Reports) != 1 || len(b.Seen.Blind) > 0 {
		g.t.Fatalf("exit code %d\n%s%s", r.Code, r.Stdout, r.Stderr)
	}
	first := b.Reports[0]
	if first.Kind != probation.Warning || first.Function.String() != "e1000_odd_mtu [lupatch_warn]" || first.PID == 0 || len(first.Stack) < 6 || !strings.HasPrefix(first.Lines[len(first.Lines)-1], "---[ end trace") {
		g.t.Errorf("%+v", first)
	}
	g.wantStatus("")
}

// hiddenName changes code that checks addresses of user memory, whose end newer
// kernels write into their code at boot, and not into that of an update.
func hiddenName(g guest, u built) {
	const list = "mkdir -p /tmp/names; cd /tmp/names; touch lupatch.hid lupatch.see; ls"
	seen := func(want string) {
		g.t.Helper()
		if got := strings.Fields(g.sh(list)); strings.Join(got, " ") != want {
			g.t.Errorf("listed are %q, want %q", got, want)
		}
	}
	seen("lupatch.hid lupatch.see")
	g.apply(u)
	seen("lupatch.see")
	g.rollback()
	seen("lupatch.hid lupatch.see")
}

// cleanConsole looks for what the kernel only mentions when it finds an update
// wanting.
func (g guest) cleanConsole(cmdline []string) {
	g.t.Helper()
	for _, bad := range []string{"Failed to fixup", "Missing ENDBR", "Corrupt .orc_unwind"} {
		if strings.Contains(g.Console(), bad) {
			g.t.Errorf("the console mentions %q\n%s", bad, g.Console())
		}
	}
	if slices.Contains(cmdline, "retbleed=stuff") {
		if got := g.sh("cat /sys/devices/system/cpu/vulnerabilities/retbleed"); got != "Mitigation: Stuffing" {
			g.t.Errorf("calls are not tracked: %q", got)
		}
	}
}
