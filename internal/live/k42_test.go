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
	g := boot(t, lab.Config{CPUs: 4})
	g.run("new interface", newInterface)
	g.run("race", race)
	g.run("live instances", liveInstances)
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

// Two writers give a text of one letter each; who reads both letters has seen
// the race. It has to be seen before the update and never with it.
func race(g guest) {
	const script = `f=/proc/sys/kernel/poweroff_cmd
a=$(head -c 250 /dev/zero | tr '\0' a); b=$(head -c 250 /dev/zero | tr '\0' b)
echo $a > $f
(while [ ! -e /tmp/enough ]; do echo $a > $f; echo $b > $f; done) &
torn=0; i=0
while [ $i -lt 6000 ]; do
	read text < $f
	case $text in *a*b*|*b*a*) torn=$((torn + 1));; esac
	i=$((i + 1))
done
touch /tmp/enough; wait; rm /tmp/enough
echo $torn`
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
	g.t.Logf("of 6000 texts read while two are written in turns %d were torn before, %d with the update", before, with)
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
		begin := time.Now()
		g.sh("i=0; while [ $i -lt 400 ]; do read x < /proc/interrupts; i=$((i + 1)); done")
		return time.Since(begin)
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
	g.t.Logf("400 times the first lines: %v before, %v with the update", before.Round(time.Millisecond), with.Round(time.Millisecond))
}
