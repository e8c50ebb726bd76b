// SPDX-License-Identifier: Apache-2.0

package live

import (
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/lupatch/lupatch/internal/lab"
)

// TestK42 goes through the three examples of "Providing Dynamic Update in an
// Operating System" (K42), remade for Linux: a new interface, a race fixed by a
// lock, an optimisation of code with many live instances.
func TestK42(t *testing.T) {
	t.Parallel()
	g := boot(t, lab.Config{CPUs: 8})
	if r := update(t, "race").manifest.Review; len(r) == 0 || !strings.HasPrefix(r[0], "mixed-version concurrency: ") || !strings.Contains(r[0], ": locking: +mutex_lock +mutex_unlock") {
		t.Errorf("points to review of the race: %q", r)
	}
	g.run("new interface", newInterface)
	g.sample(2, "race", race)
	g.sample(2, "live instances", liveInstances)
}

// The peak of a process that has given memory back can be taken anew.
func newInterface(g guest) {
	peak := func() (peak, size int) {
		text := g.sh("cat /proc/1/status")
		return field(g.t, text, "VmPeak"), field(g.t, text, "VmSize")
	}
	u := update(g.t, "interface")
	g.sh("! echo 6 > /proc/1/clear_refs")
	g.apply(u)
	g.sh("echo 6 > /proc/1/clear_refs")
	if p, s := peak(); p != s {
		g.t.Errorf("the peak is %d kB, the size %d kB", p, s)
	}
	g.sh("! echo 7 > /proc/1/clear_refs")
	g.rollback()
	g.sh("! echo 6 > /proc/1/clear_refs")
}

func field(t *testing.T, text, name string) int {
	t.Helper()
	m := regexp.MustCompile(name + `:\s+(\d+) kB`).FindStringSubmatch(text)
	if m == nil {
		t.Fatalf("no %s in %q", name, text)
	}
	n, _ := strconv.Atoi(m[1])
	return n
}

// A writer gives texts of one letter each in turns; who reads both letters has
// seen the race. It has to be seen before the update and never with it. awk reads
// and writes a whole text at once, which the shell does not.
func race(g guest) {
	const script = `cat > /tmp/write.awk <<'END'
BEGIN {
	for (i = 0; i < 250; i++) { a = a "a"; b = b "b" }
	while ((getline line < "/tmp/enough") < 0) {
		for (i = 0; i < 50; i++) { print a > f; close(f); print b > f; close(f) }
		close("/tmp/enough")
	}
}
END
cat > /tmp/read.awk <<'END'
BEGIN {
	for (i = 0; i < 4000; i++) { getline line < f; close(f); if (line ~ /ab|ba/) torn++ }
	print torn + 0
}
END
f=/proc/sys/kernel/poweroff_cmd
awk -v f=$f -f /tmp/write.awk &
awk -v f=$f -f /tmp/read.awk
touch /tmp/enough; wait; rm /tmp/enough`
	torn := func() int {
		n, err := strconv.Atoi(strings.TrimSpace(g.sh(script)))
		if err != nil {
			g.t.Fatal(err)
		}
		return n
	}
	u := update(g.t, "race")
	before := torn()
	g.apply(u)
	with := torn()
	g.rollback()
	g.t.Logf("of 4000 texts read while two are written in turns %d were torn before, %d with the update", before, with)
	if before == 0 {
		g.t.Error("the race was not met before the update, so that this shows nothing")
	}
	if with > 0 {
		g.t.Errorf("%d texts were torn with the update in force", with)
	}
}

// What is read of all interrupts stays the same but for the numbers. How much
// faster is said and not judged: emulated time proves no percentage.
func liveInstances(g guest) {
	digits := regexp.MustCompile(`[0-9]+|  +`)
	shape := func() string { return digits.ReplaceAllString(g.sh("cat /proc/interrupts"), "#") }
	took := func() time.Duration {
		best := time.Hour
		for range 5 { // the shortest is the least disturbed
			begin := time.Now()
			g.sh("cat $(yes /proc/interrupts | head -n 3000) > /dev/null")
			best = min(best, time.Since(begin))
		}
		return best
	}
	u := update(g.t, "instances")
	was := shape()
	before := took()
	g.apply(u)
	if now := shape(); now != was {
		g.t.Errorf("the table changed: %s\n%s", was, now)
	}
	with := took()
	g.rollback()
	if now := shape(); now != was {
		g.t.Errorf("the table changed: %s\n%s", was, now)
	}
	g.t.Logf("/proc/interrupts read 3000 times: %v before, %v with the update", before.Round(time.Millisecond), with.Round(time.Millisecond))
}
