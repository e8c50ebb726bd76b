// SPDX-License-Identifier: Apache-2.0

package live

import (
	"regexp"
	"strings"
	"testing"

	"github.com/lupatch/lupatch/internal/lab"
	"github.com/lupatch/lupatch/internal/lab/labtest"
	"github.com/lupatch/lupatch/internal/refuse"
	"github.com/lupatch/lupatch/internal/sample"
	"github.com/lupatch/lupatch/shadow/shadowtest"
)

// TestDriverFailures tries drivers that fail in every way, on one host with a stream
// that goes on: afterwards the driver of before is at work each time.
func TestDriverFailures(t *testing.T) {
	t.Parallel()
	cases := []struct {
		variant string
		// code is the exit code, says a part of the message.
		code int
		says string
	}{
		{shadowtest.ProbeEarly, refuse.ReversedCode, "a driver was bound that did not take the device|the probe failed|is alone"},
		{shadowtest.ProbeLate, refuse.ReversedCode, "the probe failed"},
		{shadowtest.OpenFails, refuse.ReversedCode, "ndo_open failed"},
		{shadowtest.FeatureLost, refuse.ReversedCode, "the new driver lacks features"},
		{shadowtest.OpLost, refuse.ReversedCode, "the new driver lacks the operation ethtool_ops"},
		{shadowtest.TooBig, refuse.ReversedCode, "private area"},
		{shadowtest.NoLoad, refuse.ExitCode, "driver-incompatible"},
		{shadowtest.WrongVermagic, refuse.ExitCode, "wrong-kernel-release"},
		{shadowtest.NoCarrier, refuse.ReversedCode, "link has not come back"},
	}
	for _, c := range []card{virtio, e1000} {
		t.Run(c.module, func(t *testing.T) {
			t.Parallel()
			if c == virtio {
				sample.OnlyThorough(t, "e1000 can fail in more ways")
			}
			g := driverHost(t, lab.Config{}, c)
			s, err := g.StartStream(t.Context(), lab.StreamOptions{})
			if err != nil {
				t.Fatal(err)
			}
			before := g.driverID(c)
			for _, f := range cases {
				g.run(f.variant, func(g guest) {
					if c == virtio && f.variant == shadowtest.NoCarrier {
						g.t.Skip("without VIRTIO_NET_F_STATUS the driver has no other carrier than that it declares itself")
					}
					if c == virtio && f.variant == shadowtest.FeatureLost {
						g.t.Skip("QEMU's user network offers virtio no checksums that could be lost")
					}
					r, err := g.Sh(g.t.Context(), "lupatch apply --probation 0 "+g.variant(c, f.variant))
					if err != nil {
						g.t.Fatal(err)
					}
					if r.Code != f.code || !regexp.MustCompile(f.says).Match(r.Stderr) {
						g.t.Errorf("exit code %d, want %d with %q:\n%s%s", r.Code, f.code, f.says, r.Stdout, r.Stderr)
					}
					if id := g.driverID(c); id != before {
						g.t.Errorf("the driver that runs is %s, not %s", id, before)
					}
					if out := g.sh("lupatch status --json"); strings.Contains(out, `"open"`) {
						g.t.Errorf("a change is open: %s", out)
					}
					if _, err := g.WaitNetwork(g.t.Context(), "eth0"); err != nil {
						g.t.Fatal(err)
					}
				})
			}
			stats, err := s.Stop(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if err := stats.Err(); err != nil {
				t.Error(err)
			}
			t.Logf("longest gap %s", stats.LongestGap())
		})
	}
}

// TestDriverOops has a new driver's probe die: lupatch says so and does nothing more.
func TestDriverOops(t *testing.T) {
	t.Parallel()
	c := virtio
	g := driverHost(t, lab.Config{}, c, labtest.Allow("."))
	file := g.variant(c, shadowtest.OopsProbe)
	r, err := g.Sh(t.Context(), "time lupatch apply --probation 0 "+file)
	if err != nil {
		t.Fatal(err)
	}
	const unfinished = 5
	if r.Code != unfinished || !strings.Contains(string(r.Stderr), "Oops") || !strings.Contains(string(r.Stderr), "reboot") {
		t.Errorf("exit code %d:\n%s%s", r.Code, r.Stdout, r.Stderr)
	}
	t.Logf("%s", r.Stderr)
	out := g.sh("lupatch status 2>&1")
	t.Log(out)
	if !strings.Contains(out, "reboot") {
		t.Errorf("status does not say that a reboot is owed:\n%s", out)
	}
	if r, err = g.Sh(t.Context(), "lupatch recover"); err != nil || r.Code != unfinished {
		t.Errorf("recovery: exit code %d, %v:\n%s%s", r.Code, err, r.Stdout, r.Stderr)
	}
	if r, err = g.Sh(t.Context(), "lupatch apply --probation 0 "+file); err != nil || r.Code != refuse.ExitCode || !strings.Contains(string(r.Stderr), string(refuse.Barred)) {
		t.Errorf("applied again: exit code %d, %v:\n%s%s", r.Code, err, r.Stdout, r.Stderr)
	}
}
