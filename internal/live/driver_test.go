// SPDX-License-Identifier: Apache-2.0

package live

import (
	"context"

	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/lupatch/lupatch/internal/build"
	"github.com/lupatch/lupatch/internal/kbuild"
	"github.com/lupatch/lupatch/internal/lab"
	"github.com/lupatch/lupatch/internal/lab/labtest"
	"github.com/lupatch/lupatch/internal/manifest"
	"github.com/lupatch/lupatch/internal/sample"
	"github.com/lupatch/lupatch/shadow/shadowtest"
)

const driverKernel = "6.1.0-47-amd64"

// shadowModule is the path of lupatch_shadow.ko for the kernel of these tests.
var shadowModule = sync.OnceValues(func() (string, error) {
	tree, err := kbuild.Open(context.Background(), kbuild.Options{Release: driverKernel})
	if err != nil {
		return "", err
	}
	return build.Shadow(context.Background(), tree)
})

// card is a network card of the lab with its driver.
type card struct {
	model, module string
	// needs are modules that find the card.
	needs string
}

var (
	e1000  = card{"e1000", "e1000", ""}
	virtio = card{"virtio-net-pci", "virtio_net", "virtio_pci"}
)

// driverHost boots a host whose cards were found after lupatch_shadow was loaded, as
// it is where that is loaded at boot.
func driverHost(t *testing.T, conf lab.Config, c card, opts ...labtest.Option) guest {
	t.Helper()
	labtest.SkipIfShort(t)
	ko, err := shadowModule()
	if err != nil {
		t.Fatal(err)
	}
	conf.Release = driverKernel
	conf.NoDrivers = true
	conf.NICs = append(conf.NICs, lab.NIC{Model: c.model})
	g := boot(t, conf, opts...)
	g.sh("lupatch shadow install " + g.putFile(ko, "/root/lupatch_shadow.ko") + " && modprobe lupatch_shadow")
	g.sh("for m in " + c.needs + " " + c.module + "; do modprobe $m; done")
	if conf.ManualNetwork {
		return g
	}
	if _, err := g.WaitNetwork(t.Context(), "eth0"); err != nil {
		t.Fatal(err)
	}
	return g
}

// variant brings a version of a driver into the guest.
func (g guest) variant(c card, name string) string {
	g.t.Helper()
	ko := shadowtest.Driver(g.t, driverKernel, c.module, name)
	g.sh("mkdir -p /root/" + name)
	return g.putFile(ko, "/root/"+name+"/"+c.module+".ko")
}

// driverID is the build id of the driver that runs.
func (g guest) driverID(c card) string {
	g.t.Helper()
	return g.sh("hexdump -ve '1/1 \"%02x\"' /sys/module/" + c.module + "/notes/.note.gnu.build-id")
}

// builtDriver is the newest version of a driver as `lupatch build` makes it, with its
// manifest beside it.
func (g guest) builtDriver(c card) string {
	g.t.Helper()
	out := filepath.Join(g.t.TempDir(), c.module+".ko")
	if _, err := build.Driver(g.t.Context(), build.DriverOptions{Path: c.module, Release: driverKernel, Output: out, Version: "test"}); err != nil {
		g.t.Fatal(err)
	}
	g.sh("mkdir -p /root/built")
	g.putFile(out+manifest.DriverSuffix, "/root/built/"+c.module+".ko"+manifest.DriverSuffix)
	return g.putFile(out, "/root/built/"+c.module+".ko")
}

// lenient takes a driver that offers less, which is said, and leaves it again.
func (g guest) lenient(c card) {
	g.t.Helper()
	before := g.driverID(c)
	out := g.sh("lupatch apply --probation 0 --incompatible=continue " + g.variant(c, shadowtest.FeatureLost) + " 2>&1")
	if !strings.Contains(out, "the new driver lacks features") || g.driverID(c) == before {
		g.t.Errorf("a driver that offers less, to be taken nevertheless:\n%s", out)
	}
	g.sh("lupatch rollback " + c.module)
	if id := g.driverID(c); id != before {
		g.t.Errorf("the driver that runs is %s, not %s", id, before)
	}
}

// TestDriverVersions goes from the shipped driver to the newest, to one with a larger
// private area, and back, while a stream goes on.
func TestDriverVersions(t *testing.T) {
	t.Parallel()
	for _, c := range []card{virtio, e1000} {
		t.Run(c.module, func(t *testing.T) {
			t.Parallel()
			if c == virtio {
				sample.OnlyThorough(t, "TestDriverService goes up and down with it")
			}
			g := driverHost(t, lab.Config{}, c)
			s, err := g.StartStream(t.Context(), lab.StreamOptions{})
			if err != nil {
				t.Fatal(err)
			}
			index := g.sh("cat /sys/class/net/eth0/ifindex")
			// What watches drivers has to let one go, and to know the next one.
			g.sh("lupatch watch --start")
			shipped := g.driverID(c)
			ids := []string{shipped}
			for _, file := range []string{g.builtDriver(c), g.variant(c, shadowtest.Grown)} {
				t.Log(g.sh("lupatch apply --probation 1s " + file + " 2>&1"))
				ids = append(ids, g.driverID(c))
			}
			if out := g.sh("lupatch status"); !strings.Contains(out, "driver replaced") || !strings.Contains(out, c.module) {
				t.Errorf("status does not show the driver:\n%s", out)
			}
			if out := g.sh("lupatch watch; lupatch instances " + c.module); !strings.Contains(out, "eth0") {
				t.Errorf("who watched does not know the driver:\n%s", out)
			}
			if ids[0] == ids[1] || ids[1] == ids[2] {
				t.Fatalf("the drivers that ran are %v", ids)
			}
			for _, want := range []string{ids[1], ids[0]} {
				t.Log(g.sh("lupatch rollback " + c.module + " 2>&1"))
				if id := g.driverID(c); id != want {
					t.Fatalf("the driver that runs is %s, not %s", id, want)
				}
			}
			if c == e1000 {
				g.lenient(c)
			}
			if now := g.sh("cat /sys/class/net/eth0/ifindex"); now != index {
				t.Errorf("the interface's index was %s and is %s", index, now)
			}
			stats, err := s.Stop(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if err := stats.Err(); err != nil {
				t.Error(err)
			}
			t.Logf("longest gap %s", stats.LongestGap())
			if out := g.sh("lupatch status --json"); strings.Contains(out, `"open"`) {
				t.Errorf("a change is open: %s", out)
			}
		})
	}
}
