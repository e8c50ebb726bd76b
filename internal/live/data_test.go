// SPDX-License-Identifier: Apache-2.0

package live

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/lupatch/lupatch/internal/lab"
	"github.com/lupatch/lupatch/internal/lab/labtest"
	"github.com/lupatch/lupatch/internal/refuse"
)

// TestDataAndCallbacks: updates that write variables of the running kernel and
// of a module, and such that call functions of their own.
func TestDataAndCallbacks(t *testing.T) {
	t.Parallel()
	g := boot(t, lab.Config{}, labtest.Allow(`livepatch: (pre-patch callback failed for object 'lutarget'|failed to enable patch 'lupatch_callbacks')$`))
	g.putFile(target(t), rightFile)
	g.run("values of the kernel", kernelValues)
	g.sample(2, "patch written for kpatch", writtenForKpatch)
	g.run("values of a module that is not there", valuesTooEarly)
	g.insmod(rightFile)
	g.run("values of a module", moduleValues)
	g.sample(2, "static key and call", ownKeys)
	g.sample(2, "callbacks", callbacks)
	g.run("callback refuses", callbackRefuses)
}

// kernelValues: a number that somebody has changed since boot, and a slot of a
// table that the kernel has write-protected.
func kernelValues(g guest) {
	const nrOpen, title = "/proc/sys/fs/nr_open", "Devices of this host"
	check := func(number string, titled bool) {
		g.t.Helper()
		if got := g.sh("cat " + nrOpen); got != number {
			g.t.Errorf("nr_open is %s, want %s", got, number)
		}
		if out := g.sh("cat /proc/devices"); strings.HasPrefix(out, title) != titled || !strings.Contains(out, "Character devices:") {
			g.t.Errorf("titled: want %v\n%s", titled, out)
		}
	}
	check("1048576", false)
	u := update(g.t, "values")
	g.sh("echo 2000000 > " + nrOpen)
	g.apply(u)
	check("4194304", true)
	if r := g.rollback(); r.Resident == "" {
		g.t.Error("the table pointed into an update that is freed")
	}
	check("2000000", false)
	// What somebody changes while the update is applied, stays.
	g.apply(u)
	g.sh("echo 3000000 > " + nrOpen)
	g.rollback()
	check("3000000", false)
}

// writtenForKpatch: a system call, shadow variables and a callback by the
// macros of kpatch's guide.
func writtenForKpatch(g guest) {
	const script = "dmesg -c > /dev/null; umask 0; umask 0; umask 0; umask; dmesg | grep -o 'umask: .*' || true"
	if got := g.sh(script); got != "0000" {
		g.t.Errorf("before: %q", got)
	}
	g.apply(update(g.t, "kpatch"))
	// The shell asks for the mask by setting it twice.
	got := strings.Fields(g.sh(script))
	if len(got) == 0 || got[0] != "0002" || !strings.Contains(strings.Join(got, " "), "umask: call 1 umask: call 2 umask: call 3 umask: call 1") {
		g.t.Errorf("with it: %q", got)
	}
	g.sh("dmesg -c > /dev/null")
	g.rollback()
	if log := g.sh("dmesg"); strings.Count(log, "umask: calls forgotten") != 1 {
		g.t.Errorf("the callback was not called once:\n%s", log)
	}
	if got := g.sh(script); got != "0000" {
		g.t.Errorf("after: %q", got)
	}
}

const (
	shippedData = "limit 10 label shipped plus 101 minus 99"
	changedData = "limit 20 label changed times 700 minus 99"
)

func (g guest) wantSaid(words string, f func()) {
	g.t.Helper()
	before := len(g.Console())
	f()
	says := regexp.MustCompile(regexp.QuoteMeta(words))
	if _, err := g.WaitConsole(g.t.Context(), says); err != nil {
		g.t.Fatal(err)
	}
	if text := g.Console()[before:]; !says.MatchString(text) {
		g.t.Errorf("nothing says %q:\n%s", words, text)
	}
}

func valuesTooEarly(g guest) {
	u := update(g.t, "data")
	const says = "lutarget: this update writes variables of the module, which is not loaded, refusing"
	g.wantSaid(says, func() { g.refused(refuse.LoadRefused, []string{says}, "apply", g.file(u)) })
	g.wantLoaded(u.name, false)
}

func moduleValues(g guest) {
	const limit = "/sys/module/lutarget/parameters/limit"
	u := update(g.t, "data")
	g.wantShown("data", shippedData)
	g.wantShown("shown", "step 1 shown 1")
	if text := string(g.lupatchText("inspect", g.file(u))); !strings.Contains(text, "the initial value of data_limit was set before: parameter limit=10\n") {
		g.t.Errorf("nothing of the parameter's default in\n%s", text)
	}
	g.apply(u)
	g.wantShown("data", changedData)
	g.wantShown("shown", "step 5 shown 6") // the member beside is not touched
	g.wantErrno(g.Rmmod(g.t.Context(), "lutarget"), unix.EWOULDBLOCK)
	if r := g.rollback(); r.Resident == "" {
		g.t.Error("the table pointed into an update that is freed")
	}
	g.wantShown("data", shippedData)
	g.wantShown("shown", "step 1 shown 7")
	g.sh("echo 77 > " + limit)
	g.apply(u)
	g.wantShown("data", changedData)
	g.rollback()
	g.wantShown("data", strings.Replace(shippedData, "10", "77", 1))
	g.sh("echo 10 > " + limit)
}

// ownKeys: a static key and a static call that the update brings along are
// switched like any other.
func ownKeys(g guest) {
	u := update(g.t, "newkeys")
	g.apply(u)
	for _, want := range []string{"read 1 call 2 ", "again read 2 call 11 ", "again read 3 call 11 "} {
		g.wantShown("data", want+shippedData)
	}
	g.sh("dmesg | grep -q 'data was shown'")
	g.rollback()
	g.wantShown("data", shippedData)
}

// called lists what the callbacks of the update print, in order.
func (g guest) called(f func()) []string {
	g.t.Helper()
	g.sh("dmesg -c > /dev/null")
	f()
	return strings.FieldsFunc(g.sh("dmesg | grep -o '[bc]: p.* of lutarget' || true"), func(r rune) bool { return r == '\n' })
}

func (g guest) wantCalled(f func(), want ...string) {
	g.t.Helper()
	got := g.called(f)
	for i := range want {
		want[i] += " of lutarget"
	}
	if !slices.Equal(got, want) {
		g.t.Errorf("called: %q, want %q", got, want)
	}
}

func callbacks(g guest) {
	u := update(g.t, "callbacks")
	g.wantCalled(func() { g.apply(u) }, "b: pre-patch", "c: pre-patch", "b: post-patch", "c: post-patch")
	if got := g.show("data"); !strings.HasPrefix(got, "limit is 10 ") {
		g.t.Errorf("the code is not the new one: %q", got)
	}
	g.wantCalled(func() { g.rollback() }, "c: pre-unpatch", "b: pre-unpatch", "c: post-unpatch", "b: post-unpatch")
	g.wantShown("data", shippedData)
	// A module that comes later gets its callbacks then.
	g.rmmod("lutarget")
	g.wantCalled(func() { g.apply(u) })
	g.wantCalled(func() { g.insmod(rightFile) }, "b: pre-patch", "c: pre-patch", "b: post-patch", "c: post-patch")
	g.wantCalled(func() { g.rollback() }, "c: pre-unpatch", "b: pre-unpatch", "c: post-unpatch", "b: post-unpatch")
}

func callbackRefuses(g guest) {
	u := update(g.t, "callbacks")
	g.sh("echo 13 > /sys/module/lutarget/parameters/one")
	const says = "lutarget: the patch's own pre-patch callback refuses: error -1"
	g.wantCalled(func() {
		g.wantSaid(says, func() { g.refused(refuse.LoadRefused, []string{says}, "apply", g.file(u)) })
	}, "b: pre-patch", "b: post-unpatch")
	g.wantLoaded(u.name, false)
	g.sh("echo 1 > /sys/module/lutarget/parameters/one")
	g.wantShown("data", shippedData)
	g.rmmod("lutarget") // nothing holds it
}
