// SPDX-License-Identifier: Apache-2.0

package live

import (
	"bytes"
	"regexp"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/lupatch/lupatch/internal/elfobj"
	"github.com/lupatch/lupatch/internal/lab"
	"github.com/lupatch/lupatch/internal/lab/labtest"
	"github.com/lupatch/lupatch/internal/refuse"
)

// TestModuleComesAndGoes: updates and modules that are loaded and unloaded in
// any order, and modules that are not what an update was verified against.
func TestModuleComesAndGoes(t *testing.T) {
	t.Parallel()
	// What the kernel says when a wrong module is refused.
	g := boot(t, lab.Config{}, labtest.Allow(`livepatch: (pre-patch callback failed for object 'lutarget'|failed to enable patch 'lupatch_value'|patch 'lupatch_value' failed for module 'lutarget', refusing to load module 'lutarget')$`))
	g.putFile(target(t), rightFile)
	g.run("update before module", updateFirst)
	g.run("unloading the module", unloadTarget)
	g.sample(2, "wrong module is there", wrongThere)
	g.sample(2, "wrong module in disguise", wrongDisguised)
	g.sample(2, "wrong module comes", wrongComes)
}

const (
	rightFile = "/root/lutarget.ko"
	wrongFile = "/root/wrong.ko"
	// wrongValue is what the wrong module says.
	wrongValue = "value 12"
	// notVerified is what the update itself says.
	notVerified = "lutarget: the code of lutarget_value is not what this update was verified against"
)

func updateFirst(g guest) {
	u := update(g.t, "value")
	g.apply(u)
	s := g.status()
	if summary(s) != "lupatch_value applied" || !s.Updates[0].Units[0].Waiting {
		g.t.Errorf("status: %+v", s)
	}
	g.insmod(rightFile)
	g.wantShown("value", newValue)
	if s := g.status(); s.Updates[0].Units[0].Waiting || s.Units[0].BuildID == "" {
		g.t.Errorf("status: %+v", s)
	}
}

// unloadTarget finds the update applied and the module loaded. On 6.1 the
// module cannot go: loading it a second time under a livepatch would fail.
func unloadTarget(g guest) {
	u := update(g.t, "value")
	g.wantErrno(g.Rmmod(g.t.Context(), "lutarget"), unix.EWOULDBLOCK)
	g.sh("rmmod lutarget 2>&1 | grep -q 'temporarily unavailable'")
	g.wantShown("value", newValue)
	g.wantStatus("lupatch_value applied")
	g.rollback()
	for range 2 {
		g.wantShown("value", oldValue)
		g.rmmod("lutarget")
		g.wantLoaded("lutarget", false)
		g.insmod(rightFile)
	}
	g.apply(u)
	g.wantShown("value", newValue)
	g.wantErrno(g.Rmmod(g.t.Context(), "lutarget"), unix.EWOULDBLOCK)
	g.rollback()
	g.wantShown("value", oldValue)
	g.rmmod("lutarget")
}

// wrongThere: a module of the same name with other code is loaded already.
func wrongThere(g guest) {
	u := update(g.t, "value")
	g.insmod(g.putFile(wrongTarget(g.t), wrongFile))
	g.wantShown("value", wrongValue)
	g.refused(refuse.WrongUnit, []string{"lutarget", "build id"}, "apply", g.file(u))
	g.refusedByItself(func() { g.wantErrno(g.Insmod(g.t.Context(), g.file(u), ""), unix.ENOEXEC) })
	g.wantShown("value", wrongValue)
	g.wantLoaded(u.name, false)
	g.wantStatus("")
	g.rmmod("lutarget")
}

// refusedByItself wants the update to say on the console why it refuses.
func (g guest) refusedByItself(f func()) {
	g.t.Helper()
	before := len(g.Console())
	f()
	says := regexp.MustCompile(regexp.QuoteMeta("lupatch_value: " + notVerified))
	if _, err := g.WaitConsole(g.t.Context(), says); err != nil {
		g.t.Fatal(err)
	}
	if text := g.Console()[before:]; !says.MatchString(text) {
		g.t.Errorf("the update does not say which function is wrong:\n%s", text)
	}
}

// wrongDisguised: its build id is that of the right module.
func wrongDisguised(g guest) {
	u := update(g.t, "value")
	g.insmod(g.disguised())
	g.wantShown("value", wrongValue)
	g.refusedByItself(func() {
		g.refused(refuse.LoadRefused, []string{notVerified}, "apply", g.file(u))
	})
	g.wantShown("value", wrongValue)
	g.wantLoaded(u.name, false)
	g.wantStatus("")
	// With it goes what was applied before it in the same change.
	crypto := update(g.t, "crypto")
	g.refusedByItself(func() {
		g.refused(refuse.LoadRefused, []string{notVerified}, "apply", g.file(crypto), g.file(u))
	})
	g.wantLoaded(crypto.name, false)
	g.wantStatus("")
	g.sh("! grep 'followed by' /proc/crypto")
	g.rmmod("lutarget")
}

// disguised brings in a wrong module with the build id of the right one.
func (g guest) disguised() string {
	g.t.Helper()
	wrong := g.read(wrongTarget(g.t))
	return g.put(bytes.Replace(wrong, buildID(g.t, wrong), buildID(g.t, g.read(target(g.t))), 1), "/root/disguised.ko")
}

// buildID is the note that identifies a module.
func buildID(t testing.TB, ko []byte) []byte {
	t.Helper()
	f, err := elfobj.Read(ko)
	if err != nil {
		t.Fatal(err)
	}
	s := f.Section(".note.gnu.build-id")
	if s == nil || !bytes.Contains(ko, s.Data) {
		t.Fatal("the module has no build id")
	}
	return s.Data
}

// wrongComes: the update waits for the module, and another one comes.
func wrongComes(g guest) {
	g.apply(update(g.t, "value"))
	for _, file := range []string{g.putFile(wrongTarget(g.t), wrongFile), g.disguised()} {
		g.refusedByItself(func() { g.wantErrno(g.Insmod(g.t.Context(), file, ""), unix.ENOEXEC) })
		g.wantLoaded("lutarget", false)
		g.sh("! test -e /proc/lutarget")
		if s := g.status(); summary(s) != "lupatch_value applied" || !s.Updates[0].Units[0].Waiting {
			g.t.Errorf("status: %+v", s)
		}
	}
	g.insmod(rightFile)
	g.wantShown("value", newValue)
	g.rollback()
	g.wantShown("value", oldValue)
}
