// SPDX-License-Identifier: Apache-2.0

package live

import (
	"bytes"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/lupatch/lupatch/internal/kbuild"
	"github.com/lupatch/lupatch/internal/lab"
	"github.com/lupatch/lupatch/internal/lab/labtest"
	"github.com/lupatch/lupatch/internal/sample"
)

// TestExamples applies and takes back updates of the kernel and of a network
// driver while a checked stream runs through its card.
func TestExamples(t *testing.T) {
	t.Parallel()
	// The warnings that an update is made to give.
	g := boot(t, lab.Config{NICs: []lab.NIC{{Model: "e1000"}, {Model: "e1000"}}},
		labtest.Allow(`WARNING: CPU: \d+ PID: \d+ at drivers/net/ethernet/intel/e1000/e1000_main\.c:\d+ e1000_odd_mtu`), labtest.Allow(`Call Trace:$`))
	if _, err := g.WaitNetwork(t.Context(), "eth0"); err != nil {
		t.Fatal(err)
	}
	for _, e := range examples {
		if sample.Drawn(t.Name()+e.update, 2) {
			update(t, e.update)
		}
	}
	stream, err := g.StartStream(t.Context(), lab.StreamOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range examples {
		g.sample(2, e.update, e.play)
		t.Logf("longest silence of the stream so far %v", stream.Stats().LongestGap)
	}
	g.run("warning", warning)
	g.run("driver in use", driverInUse)
	g.sample(2, "probe function", probed)
	select {
	case <-stream.Broken():
		t.Error("the stream has ended by itself")
	default:
	}
	st, err := stream.Stop(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := st.Err(); err != nil {
		t.Error(err)
	}
	const least = 1 << 20
	if st.BytesUp() < least || st.BytesDown() < least {
		t.Errorf("only %d bytes up and %d down", st.BytesUp(), st.BytesDown())
	}
	t.Logf("%.1f MB up, %.1f MB down, longest gap %v", float64(st.BytesUp())/1e6, float64(st.BytesDown())/1e6, st.LongestGap())
	g.run("driver reloaded", driverReloaded)
}

// example is one of the updates in the folder examples, with a command whose
// output has some texts with the update and has none of them without.
type example struct {
	update, probe string
	with          []string
}

const setMTU = "(echo %d > /sys/class/net/eth0/mtu) 2>&1; cat /sys/class/net/eth0/mtu; echo 1500 > /sys/class/net/eth0/mtu"

var examples = []example{
	{"meminfo", "cat /proc/meminfo", []string{"MemUsed: "}},
	{"mtu", fmt.Sprintf(setMTU, 9216), []string{"Invalid argument"}},
	{"two", "cat /proc/version; dmesg -c > /dev/null; ip link set eth0 promisc on; ip link set eth0 promisc off; dmesg",
		[]string{"times since the update", "receive mode change", "promiscuous on", "promiscuous off"}},
	// What calls the function is replaced, also in modules that are not there.
	{"untraced", "cat /proc/sys/kernel/random/uuid", []string{"4c5550"}},
	// Of the two functions fix_local each object calls its own.
	{"shared", "cat /proc/version /proc/meminfo; dmesg -c > /dev/null; " + fmt.Sprintf(setMTU, 1400) + "; dmesg",
		[]string{"fix page: ", "fix local 1007", "FixTwice: 43", "fix twice 2841 local 3400 level "}},
}

func (e example) check(g guest, want bool) {
	g.t.Helper()
	out := g.sh(e.probe)
	for _, text := range e.with {
		if strings.Contains(out, text) != want {
			g.t.Errorf("%q in the output: %v, want %v\n%s", text, !want, want, out)
		}
	}
}

func (e example) play(g guest) {
	u := update(g.t, e.update)
	e.check(g, false)
	g.apply(u)
	e.check(g, true)
	g.wantStatus(u.name + " applied")
	r := g.rollback()
	e.check(g, false)
	g.wantLoaded(u.name, r.Resident != "")
	if (r.Resident != "") != (len(u.manifest.Escapes) > 0) {
		g.t.Errorf("resident: %q, escapes: %q", r.Resident, u.manifest.Escapes)
	}
}

// warning lets new code warn, in a function that is called by one that was
// replaced. The kernel has to find the way back through both, by the unwind
// tables of the update, and the place in the source.
func warning(g guest) {
	u := update(g.t, "warn")
	g.apply(u)
	g.sh(fmt.Sprintf(setMTU, 1400))
	if strings.Contains(g.Console(), "cut here") {
		g.t.Fatal("it warns without a reason")
	}
	from := len(g.Console())
	for range 2 {
		g.sh(fmt.Sprintf(setMTU, 1401))
	}
	if _, err := g.WaitConsole(g.t.Context(), regexp.MustCompile(`(?s)end trace.*MTU 1401 was looked at.*MTU 1401 was looked at`)); err != nil {
		g.t.Fatal(err)
	}
	text := g.Console()[from:]
	if n := strings.Count(text, "cut here"); n != 1 {
		g.t.Errorf("it warned %d times, want once", n)
	}
	const source = "drivers/net/ethernet/intel/e1000/e1000_main.c"
	want := fmt.Sprintf("at %s:%d e1000_odd_mtu+", source, lineOf(g.t, source, "WARN_ONCE(new_mtu % 2"))
	for _, w := range []string{want, "[lupatch_warn]", "eth0: MTU 1401 is odd"} {
		if !strings.Contains(text, w) {
			g.t.Errorf("the warning does not say %q\n%s", w, text)
		}
	}
	wantTrace(g, text, "e1000_change_mtu", "dev_set_mtu_ext", "dev_set_mtu", "mtu_store", "kernfs_fop_write_iter", "vfs_write", "ksys_write", "do_syscall_64", "entry_SYSCALL_64_after_hwframe")
	g.rollback()
	g.wantLoaded(u.name, false)
	g.sh(fmt.Sprintf(setMTU, 1403))
	if n := strings.Count(g.Console(), "is odd"); n != 1 {
		g.t.Errorf("after the rollback it was warned %d times in all", n)
	}
}

// lineOf is the line of a text in a file as patched.
func lineOf(t testing.TB, source, text string) int {
	t.Helper()
	tree, err := kbuild.Open(t.Context(), kbuild.Options{Release: labtest.Release})
	if err != nil {
		t.Fatal(err)
	}
	b := patched(t, kernelPatch["warn"], tree.Src)[source]
	before, _, ok := bytes.Cut(b, []byte(text))
	if !ok {
		t.Fatalf("%s has no %q", source, text)
	}
	return bytes.Count(before, []byte("\n")) + 1
}

var reTrace = regexp.MustCompile(`(?m)^\[[ .\d]+\]  (\? )?([\w.]+)\+0x[0-9a-f]+/0x[0-9a-f]+(?: \[(\w+)\])?\s*$`)

// wantTrace wants all functions from the warning to the system call on the
// stack, found by unwinding. Addresses that only lie about there, in parts of
// frames that nobody has written to, are marked with a question mark; where
// unwinding fails, all that follows is.
func wantTrace(g guest, text string, want ...string) {
	g.t.Helper()
	if got := trace(g, text); !slices.Equal(got, want) {
		g.t.Errorf("on the stack are %q, want %q\n%s", got, want, text)
	}
}

func trace(g guest, text string) (got []string) {
	g.t.Helper()
	for _, m := range reTrace.FindAllStringSubmatch(text, -1) {
		if m[1] != "" {
			continue
		}
		got = append(got, m[2])
		if m[2] == "e1000_change_mtu" && m[3] != "lupatch_warn" {
			g.t.Errorf("e1000_change_mtu is that of %q", m[3])
		}
	}
	return got
}

// driverInUse: under an update a driver cannot be unloaded, and nothing breaks
// of the attempt.
func driverInUse(g guest) {
	g.apply(update(g.t, "mtu"))
	g.wantErrno(g.Rmmod(g.t.Context(), "e1000"), unix.EWOULDBLOCK)
	examples[1].check(g, true)
	g.rollback()
	examples[1].check(g, false)
}

// driverReloaded: what was patched and taken back can go, come and be patched
// again.
func driverReloaded(g guest) {
	u := update(g.t, "mtu")
	g.rmmod("e1000")
	g.sh("! test -e /sys/class/net/eth0")
	if err := g.Modprobe(g.t.Context(), "e1000", ""); err != nil {
		g.t.Fatal(err)
	}
	g.sh("ip link set eth0 up")
	g.apply(u)
	examples[1].check(g, true)
	g.rollback()
	examples[1].check(g, false)
	if n := len(g.sh("ls /sys/kernel/livepatch")); n != 0 {
		g.t.Error("a livepatch is left")
	}
}
