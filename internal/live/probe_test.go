// SPDX-License-Identifier: Apache-2.0

package live

import (
	"slices"
	"strings"

	"github.com/lupatch/lupatch/internal/instances"
	"github.com/lupatch/lupatch/internal/manifest"
)

// probed changes the probe function of a driver with two cards: both are listed
// as what it comes too late for, until one is bound again.
func probed(g guest) {
	const folder = "/sys/bus/pci/drivers/e1000"
	u := update(g.t, "probe")
	f := u.manifest.Units[0].Functions
	if len(f) != 1 || f[0].Name != "e1000_probe" || f[0].Effect != manifest.EffectNextProbe || !slices.Equal(f[0].Drivers, []string{"e1000"}) {
		g.t.Errorf("functions: %+v", f)
	}
	cards := strings.Fields(g.sh("cd " + folder + "; ls -d 0000:*"))
	if len(cards) != 2 {
		g.t.Fatalf("the driver has %q", cards)
	}
	file := g.file(u)
	g.wantCards(cards, "inspect", file)
	g.wantCards(cards, "apply", "--dry-run", file)
	var applied struct {
		Ran map[string][]instances.Point `json:"already_run_here"`
	}
	g.succeed(&applied, "apply", file)
	g.checkCards(cards, applied.Ran[u.name])
	again := func() bool {
		g.t.Helper()
		g.sh("dmesg -c > /dev/null; echo " + cards[1] + " > " + folder + "/unbind; echo " + cards[1] + " > " + folder + "/bind")
		return strings.Contains(g.sh("dmesg"), "probed by the update")
	}
	if !again() {
		g.t.Error("a card bound again was not probed by the new code")
	}
	// Nobody can tell the two cards apart now.
	g.wantCards(nil, "inspect", file)
	g.rollback()
	if again() {
		g.t.Error("a card was probed by the new code after the rollback")
	}
	text := string(g.lupatchText("inspect", file))
	if want := "e1000_probe has already run for: " + strings.Join(cards, ", ") + " (driver e1000)"; !strings.Contains(text, want) {
		g.t.Errorf("no %q in\n%s", want, text)
	}
}

// wantCards asks what a command lists of the old code of e1000_probe.
func (g guest) wantCards(cards []string, verb string, args ...string) {
	g.t.Helper()
	if verb == "inspect" {
		var answer struct {
			Ran []instances.Point `json:"already_run_here"`
		}
		g.succeed(&answer, verb, args...)
		g.checkCards(cards, answer.Ran)
		return
	}
	var answer struct {
		Ran map[string][]instances.Point `json:"already_run_here"`
	}
	g.succeed(&answer, verb, args...)
	g.checkCards(cards, answer.Ran["lupatch_probe"])
}

func (g guest) checkCards(cards []string, points []instances.Point) {
	g.t.Helper()
	var got []string
	for _, p := range points {
		for _, d := range p.Devices {
			if p.Unit != "e1000" || p.Function != "e1000_probe" || d.Bus != "pci" || d.Driver != "e1000" {
				g.t.Errorf("%+v", p)
			}
			got = append(got, d.Name)
		}
	}
	if !slices.Equal(got, cards) {
		g.t.Errorf("listed are %q, want %q", got, cards)
	}
}
