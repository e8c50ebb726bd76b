// SPDX-License-Identifier: Apache-2.0

package live

import (
	"regexp"
	"testing"

	"github.com/lupatch/lupatch/internal/lab"
)

// function and reference give the positions that an update names a symbol by;
// -1 if it does not.
func (b built) function(unit, name string) int {
	for _, u := range b.manifest.Units {
		for _, f := range u.Functions {
			if u.Name == unit && f.Name == name && !f.New {
				return f.Sympos
			}
		}
	}
	return -1
}

func (b built) reference(object, symbol string) int {
	for _, u := range b.manifest.Units {
		for _, r := range u.Relocations {
			if r.Object == object && r.Symbol == symbol {
				return r.Sympos
			}
		}
	}
	return -1
}

// TestTarget goes through what is done with updates of a module and of the
// kernel: symbols of one name, the commands, refusals.
func TestTarget(t *testing.T) {
	t.Parallel()
	g := boot(t, lab.Config{})
	g.insmod(g.putFile(target(t), "/root/lutarget.ko"))
	g.run("namesakes in a module", namesakesInModule)
	g.run("namesakes in the kernel", namesakesInKernel)
	g.sample(2, "flow", flow)
	g.run("one on the other", stacked)
	g.run("foreign livepatch", foreign)
	g.run("plain insmod", plainInsmod)
	g.run("wrong release", wrongRelease)
	g.run("damaged", damaged)
	g.sample(4, "ten rounds", tenRounds)
}

func namesakesInModule(g guest) {
	u := update(g.t, "twins")
	for symbol, got := range map[string]int{
		"the function twin": u.function("lutarget", "twin"), "twin_part": u.reference("lutarget", "twin_part"), "twin_base": u.reference("lutarget", "twin_base"),
	} {
		if got != 2 {
			g.t.Fatalf("the update finds %s at position %d, want 2", symbol, got)
		}
	}
	const first, before, after = "twin 202", "twin 603", "twin 200603"
	g.wantShown("twin_a", first)
	g.wantShown("twin_b", before)
	g.apply(u)
	g.sh("test -d /sys/kernel/livepatch/lupatch_twins/lutarget/twin,2")
	g.wantShown("twin_a", first)
	g.wantShown("twin_b", after)
	g.rollback()
	g.wantShown("twin_a", first)
	g.wantShown("twin_b", before)
}

var (
	reDriver   = regexp.MustCompile(`(?m)^driver *: (.*)$`)
	reFollowed = regexp.MustCompile(`(?m)^followed by *: (.*)$`)
)

// The new c_show calls the c_next of its own file, which is the third of that
// name: what it says of each entry has to be what the next entry says of itself.
func namesakesInKernel(g guest) {
	u := update(g.t, "crypto")
	if got := u.function("vmlinux", "c_start"); got < 2 {
		g.t.Fatalf("the update replaces c_start at position %d, want a later one", got)
	}
	if got := u.reference("vmlinux", "c_next"); got < 2 {
		g.t.Fatalf("the update finds c_next at position %d, want a later one", got)
	}
	const head = "the algorithms of this kernel"
	read := func() (drivers, followed [][]string, headed bool) {
		text := g.sh("cat /proc/crypto /proc/consoles /proc/cpuinfo")
		return reDriver.FindAllStringSubmatch(text, -1), reFollowed.FindAllStringSubmatch(text, -1), regexp.MustCompile(head).MatchString(text)
	}
	if drivers, followed, headed := read(); len(drivers) < 3 || len(followed) > 0 || headed {
		g.t.Fatalf("before: %d algorithms, %d with what follows, header %v", len(drivers), len(followed), headed)
	}
	g.apply(u)
	drivers, followed, headed := read()
	if !headed {
		g.t.Error("the new c_start is not used")
	}
	if len(followed) != len(drivers)-1 { // nothing follows the last
		g.t.Fatalf("%d algorithms, %d of them with what follows", len(drivers), len(followed))
	}
	for i := range followed {
		if followed[i][1] != drivers[i+1][1] {
			g.t.Errorf("entry %d says that %q follows, but it is %q", i, followed[i][1], drivers[i+1][1])
		}
	}
	g.rollback()
	if _, followed, headed := read(); len(followed) > 0 || headed {
		g.t.Error("the update is still in force after its rollback")
	}
}
