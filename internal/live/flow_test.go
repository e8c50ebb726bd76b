// SPDX-License-Identifier: Apache-2.0

package live

import (
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/lupatch/lupatch/internal/lab/labtest"
	"github.com/lupatch/lupatch/internal/refuse"
)

const (
	oldValue = "value 11"
	newValue = "value 1011"
)

// flow applies two updates at once, asks for the status and takes them back.
func flow(g guest) {
	value, crypto := update(g.t, "value"), update(g.t, "crypto")
	g.wantStatus("")
	g.refused(refuse.NotApplied, nil, "rollback")
	var dry struct {
		WouldApply []struct{ Update string } `json:"would_apply"`
	}
	g.succeed(&dry, "apply", "--dry-run", g.file(value))
	if len(dry.WouldApply) != 1 || dry.WouldApply[0].Update != value.name {
		g.t.Errorf("dry run: %+v", dry)
	}
	g.wantShown("value", oldValue)
	res := g.apply(value, crypto)
	if res[0].Module != value.name || res[1].Module != crypto.name {
		g.t.Errorf("loaded as %s and %s", res[0].Module, res[1].Module)
	}
	g.wantShown("value", newValue)
	g.sh("grep -q 'followed by' /proc/crypto")
	s := g.status()
	if got, want := summary(s), "lupatch_crypto applied, lupatch_value applied"; got != want {
		g.t.Errorf("status is %q, want %q", got, want)
	}
	versions := map[string]int{}
	for _, u := range s.Units {
		versions[u.Unit] = u.Version
		if u.BuildID == "" {
			g.t.Errorf("no build id of %s", u.Unit)
		}
	}
	if s.Release != labtest.Release || versions["lutarget"] != 1 || versions["vmlinux"] != 1 || s.Transition != nil {
		g.t.Errorf("status: %+v", s)
	}
	for _, u := range s.Updates {
		if u.Since.IsZero() || u.Generation != 1 || u.Subject == "" || len(u.Units) != 1 || len(u.Units[0].Functions) == 0 || u.Units[0].Waiting {
			g.t.Errorf("status: %+v", u)
		}
	}
	g.refused(refuse.AlreadyApplied, []string{value.name}, "apply", g.file(value))
	g.refused(refuse.NotApplied, []string{"nonsense"}, "rollback", "nonsense")
	for _, want := range []string{crypto.name, value.name} {
		r := g.rollback()
		if r.Update != want || r.Resident != "" {
			g.t.Errorf("rolled back: %+v, want %s", r, want)
		}
		g.wantLoaded(want, false)
	}
	g.wantStatus("")
	g.wantShown("value", oldValue)
	g.sh("! grep 'followed by' /proc/crypto")
}

// stacked applies an update that was made for version 1 of its unit.
func stacked(g guest) {
	value, twins := update(g.t, "value"), update(g.t, "twins")
	second := g.put(twins.on(g.t, value), "/root/second.ko")
	g.refused(refuse.WrongVersion, []string{"stands on the update lupatch_value"}, "apply", second)
	g.refused(refuse.WrongVersion, []string{"lutarget", "version 1"}, "apply", g.file(value), g.file(twins))
	g.wantStatus("")
	g.wantShown("value", oldValue)
	g.succeed(&struct{}{}, "apply", g.file(value), second)
	g.wantShown("value", newValue)
	g.wantShown("twin_b", "twin 200603")
	if s := g.status(); len(s.Units) != 1 || s.Units[0].Version != 2 {
		g.t.Errorf("units: %+v", s.Units)
	}
	g.refused(refuse.NotNewest, []string{twins.name}, "rollback", value.name)
	g.wantShown("value", newValue)
	if r := g.rollback(); r.Update != twins.name {
		g.t.Errorf("rolled back %s first", r.Update)
	}
	if r := g.rollback(value.name); r.Resident != "" {
		g.t.Errorf("%+v", r)
	}
	g.wantShown("value", oldValue)
	g.wantShown("twin_b", "twin 603")
}

// foreign loads a livepatch that was made by hand for the same function.
func foreign(g guest) {
	value := update(g.t, "value")
	g.insmod(g.putFile(module(g.t, "foreign", "foreign", "foreign", nil), "/root/foreign.ko"))
	g.until(`[ "$(cat /sys/kernel/livepatch/foreign/transition)" = 0 ]`)
	g.wantShown("value", "value 99")
	g.wantStatus("foreign foreign")
	g.refused(refuse.ForeignLivepatch, []string{"lutarget_value", "foreign"}, "apply", g.file(value))
	g.refused(refuse.NotApplied, []string{"did not load"}, "rollback", "foreign")
	g.wantShown("value", "value 99")
	// Another function is no conflict.
	twins := update(g.t, "twins")
	g.apply(twins)
	g.wantStatus("lupatch_twins applied, foreign foreign")
	g.wantShown("value", "value 99")
	g.rollback()
	g.sh("echo 0 > /sys/kernel/livepatch/foreign/enabled")
	g.until("rmmod foreign 2>/dev/null")
	g.wantShown("value", oldValue)
	g.apply(value)
	g.wantShown("value", newValue)
	g.rollback()
}

// plainInsmod loads an update behind the back of lupatch.
func plainInsmod(g guest) {
	value := update(g.t, "value")
	g.insmod(g.file(value))
	g.until(`[ "$(cat /sys/kernel/livepatch/lupatch_value/transition)" = 0 ]`)
	g.wantShown("value", newValue)
	g.wantStatus("lupatch_value foreign")
	g.refused(refuse.AlreadyApplied, []string{"not lupatch that loaded it"}, "apply", g.file(value))
	g.sh("echo 0 > /sys/kernel/livepatch/lupatch_value/enabled")
	g.until("rmmod lupatch_value 2>/dev/null")
	g.wantShown("value", oldValue)
}

// wrongRelease gives lupatch an update for a sister of the kernel. (The kernel
// itself would take it: where symbols have checksums it does not compare the
// release in vermagic.)
func wrongRelease(g guest) {
	value := update(g.t, "value")
	const other = "6.1.0-46-amd64"
	file := g.put(value.altered(g.t, labtest.Release, other), "/root/other.ko")
	g.refused(refuse.WrongRelease, []string{labtest.Release, other}, "apply", file)
	// The kernel alone would take it: with modversions it skips the release.
	g.wantErrno(g.Insmod(g.t.Context(), file, ""), unix.ENOEXEC)
	g.sh("dmesg | grep 'built for kernel " + other + ", refusing'")
	g.wantShown("value", oldValue)
	g.wantLoaded(value.name, false)
}

// damaged updates are recognised before anything is done with them.
func damaged(g guest) {
	image := update(g.t, "value").image
	n := len(image)
	// A whole module of another's would be a driver to replace.
	cases := map[string][]byte{"empty": {}, "no update": []byte("not a module at all\n")}
	for _, size := range []int{1, 64, n / 2, n - 1} {
		cases[fmt.Sprintf("cut off at %d", size)] = image[:size]
	}
	for _, at := range []int{0, 18, 44, 64, n / 3, n / 2, 2 * n / 3, n - 1} {
		b := append([]byte(nil), image...)
		b[at] ^= 1 << (at % 8)
		cases[fmt.Sprintf("bit flipped at %d", at)] = b
	}
	before := g.modules()
	for name, b := range cases {
		g.put(b, "/root/damaged.ko")
		r := g.lupatch("apply", "/root/damaged.ko")
		if r.Code != refuse.ExitCode {
			g.t.Errorf("%s: exit code %d\n%s%s", name, r.Code, r.Stdout, r.Stderr)
			continue
		}
		g.checkRefusal(r, refuse.NotAnUpdate, "/root/damaged.ko")
	}
	if after := g.modules(); after != before {
		g.t.Errorf("modules before:\n%s\nafter:\n%s", before, after)
	}
	g.wantStatus("")
}

// tenRounds leaves nothing behind.
func tenRounds(g guest) {
	value := update(g.t, "value")
	before := g.modules()
	for i := range 10 {
		if r := g.apply(value)[0]; r.Module != value.name {
			g.t.Errorf("round %d: loaded as %s", i, r.Module)
		}
		g.wantShown("value", newValue)
		if r := g.rollback(); r.Resident != "" {
			g.t.Errorf("round %d: %s", i, r.Resident)
		}
		g.wantShown("value", oldValue)
	}
	if after := g.modules(); after != before {
		g.t.Errorf("modules before:\n%s\nafter:\n%s", before, after)
	}
	if got := g.sh("ls /var/lib/lupatch/updates/* /sys/kernel/livepatch; cat /sys/kernel/debug/tracing/enabled_functions"); strings.ContainsAny(got, "_ ") {
		g.t.Errorf("left behind:\n%s", got)
	}
}
