// SPDX-License-Identifier: Apache-2.0

package live

import (
	"slices"
	"strings"
	"testing"

	"github.com/lupatch/lupatch/internal/lab"
	"github.com/lupatch/lupatch/internal/sample"
)

// TestPrototypeAcrossModules changes what two functions take and give that one
// module exports and another one calls. They change together, in whatever order
// modules and update come; and each module goes on fitting the other one, whose
// exports keep their checksums.
func TestPrototypeAcrossModules(t *testing.T) {
	sample.OnlyThorough(t, "TestInterfacesAccepted of package build has such an update built")
	t.Parallel()
	u := update(t, "prototype")
	var functions []string
	for _, unit := range u.manifest.Units {
		for _, f := range unit.Functions {
			functions = append(functions, unit.Name+":"+f.Name)
		}
	}
	want := []string{"8021q:vlan_gvrp_init_applicant", "8021q:vlan_gvrp_uninit_applicant", "garp:garp_init_applicant", "garp:garp_uninit_applicant"}
	if slices.Sort(functions); !slices.Equal(functions, want) {
		t.Errorf("the update has %q, want %q", functions, want)
	}
	g := boot(t, lab.Config{Available: []string{"8021q", "dummy"}})
	g.modprobe("dummy")
	g.sh("test -e /sys/class/net/dummy0 || ip link add dummy0 type dummy")

	g.apply(u)
	g.modprobe("8021q")
	g.wantGARP("both modules came to the update", true)
	g.rollback()
	g.wantGARP("taken back", false)
	g.apply(u)
	g.wantGARP("the update came to both modules", true)
	g.rollback()
	g.wantGARP("taken back again", false)
	g.rmmod("8021q")
	g.apply(u)
	g.modprobe("8021q")
	g.wantGARP("the caller came to update and called", true)
	g.rollback()
	g.wantGARP("taken back a third time", false)
	for _, m := range []string{"8021q", "mrp", "garp"} {
		g.rmmod(m)
	}
}

func (g guest) modprobe(name string) {
	g.t.Helper()
	if err := g.Modprobe(g.t.Context(), name, ""); err != nil {
		g.t.Fatal(err)
	}
}

// wantGARP makes a VLAN, the first of its device, and removes it.
func (g guest) wantGARP(when string, with bool) {
	g.t.Helper()
	g.sh("dmesg -c > /dev/null; ip link set dummy0 up; ip link add link dummy0 name vlan7 type vlan id 7")
	g.sh("test -e /sys/class/net/vlan7 && ip link del vlan7 && ip link set dummy0 down")
	said := g.sh("dmesg")
	for _, text := range []string{"garp: dummy0 takes part for VLANs", "garp: dummy0 leaves for VLANs", "applicant gone, 4711"} {
		if strings.Contains(said, text) != with {
			g.t.Errorf("%s: %q is said: %v, want %v\n%s", when, text, !with, with, said)
		}
	}
}
