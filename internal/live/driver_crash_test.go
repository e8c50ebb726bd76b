// SPDX-License-Identifier: Apache-2.0

package live

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lupatch/lupatch/internal/evidence/record"
	"github.com/lupatch/lupatch/internal/lab"
	"github.com/lupatch/lupatch/internal/lab/labtest"
	"github.com/lupatch/lupatch/internal/sample"
	"github.com/lupatch/lupatch/shadow/shadowtest"
)

// driverCrashTable names the tables that a run of all points fills, with a % for kill
// or power; without it a sample is tried.
const driverCrashTable = "LUPATCH_EVIDENCE_SHADOW_CRASH"

// killedWithin is how long the host may take to have a driver again, by itself.
const killedWithin = 40 * time.Second

// driverCrash is a host on which replacements of drivers are interrupted. Its state
// and its modules are on a disk that outlives it.
type driverCrash struct {
	guest
	c        card
	image    string
	old, new string // build ids
	file     string
}

func newDriverCrash(t *testing.T, c card) *driverCrash {
	h := &driverCrash{c: c, image: ext4(t, "64M"), guest: guest{nil, t}}
	h.power()
	h.old = h.driverID(c)
	return h
}

// power boots it, again: the driver comes from where depmod finds it.
func (h *driverCrash) power() {
	h.t.Helper()
	ko, err := shadowModule()
	if err != nil {
		h.t.Fatal(err)
	}
	if h.Host != nil {
		h.Close()
	}
	h.file = "/root/" + h.c.module + ".ko"
	h.guest = guest{labtest.Boot(h.t, lab.Config{
		// kmod's modprobe prefers what is in updates/, busybox's does not.
		Packages: []string{"kmod"},
		NICs:     []lab.NIC{{Model: h.c.model}}, NoDrivers: true, Modules: []string{"virtio_blk", "ext4"},
		Disks: []lab.Disk{{Model: "virtio", Image: h.image}},
		Files: []lab.File{{Path: "/root/lupatch_shadow.ko", Host: ko}, {Path: "/root/lupatch-crash", Host: crashing(h.t), Mode: 0o755},
			{Path: h.file, Host: shadowtest.Driver(h.t, driverKernel, h.c.module, shadowtest.Newer)}},
	}), h.t}
	h.sh(`mkdir -p /var/lib/lupatch /mnt
mount -t ext4 /dev/vda /mnt
mkdir -p /mnt/lupatch /mnt/updates /lib/modules/` + driverKernel + `/updates
mount -o bind /mnt/lupatch /var/lib/lupatch
mount -o bind /mnt/updates /lib/modules/` + driverKernel + `/updates
depmod
insmod /root/lupatch_shadow.ko
for m in ` + h.c.needs + " " + h.c.module + `; do modprobe $m; done`)
	if _, err := h.WaitNetwork(h.t.Context(), "eth0"); err != nil {
		h.t.Fatal(err)
	}
}

// attempt ends an apply at a point, or lets it run if that is 0, and gives the points.
func (h *driverCrash) attempt(at int, by string) ([]string, *lab.Result, error) {
	h.t.Helper()
	env := h.endAt(at, by)
	argv := []string{"/root/lupatch-crash", "apply", "--yes", "--probation", "300ms", h.file}
	r, err := h.Run(h.t.Context(), lab.Cmd{Argv: argv, Env: env, Timeout: commandTime})
	if err != nil {
		return nil, r, err
	}
	return h.points(), r, nil
}

// settled waits until a driver is at work and nothing more is under way, by itself, and
// says which version it is. A change that was interrupted before anything was stopped
// may still be open in the journal: recovery ends that.
func (h *driverCrash) settled(limit time.Duration) (version string, took time.Duration, err error) {
	h.t.Helper()
	begin := time.Now()
	for {
		r, err := h.Sh(h.t.Context(), "lupatch status --json; ip link show eth0; lupatch shadow status --json; hexdump -ve '1/1 \"%02x\"' /sys/module/"+h.c.module+"/notes/.note.gnu.build-id")
		if err != nil {
			return "", 0, err
		}
		out := string(r.Stdout)
		ready := r.Code == 0 && !strings.Contains(out, `"session":`) && strings.Contains(out, "LOWER_UP")
		took = time.Since(begin)
		if ready && strings.Contains(out, `"open"`) {
			if r := h.sh("lupatch recover; lupatch status --json"); strings.Contains(r, `"open"`) {
				return "", took, fmt.Errorf("recovery leaves something open:\n%s", r)
			}
		}
		switch {
		case ready && strings.HasSuffix(out, h.old):
			return "old", took, nil
		case ready && h.new != "" && strings.HasSuffix(out, h.new):
			return "new", took, nil
		case took > limit:
			return "", took, fmt.Errorf("after %s:\n%s%s", took.Round(time.Second), r.Stdout, r.Stderr)
		}
	}
}

// TestDriverKilled ends lupatch at points of the replacement of a driver, by SIGKILL:
// the guardian brings a driver back, with nobody's help. And by switching the host off:
// after the boot there is one driver, and the journal agrees.
func TestDriverKilled(t *testing.T) {
	t.Parallel()
	labtest.SkipIfShort(t)
	endedBy(t, driverCrashTable, func(t *testing.T, by string) {
		driverCrashes(t, by, allPoints(t, driverCrashTable, by,
			"kernel "+driverKernel+", lupatch ended at every record of its journal while it replaced virtio_net, by make evidence-shadow-crash", "seconds"))
	})
}

func driverCrashes(t *testing.T, by string, results *record.Table) {
	h := newDriverCrash(t, virtio)
	points, r, err := h.attempt(0, "")
	if err != nil || r.Code != 0 {
		t.Fatalf("%v %+v", err, r)
	}
	h.new = h.driverID(h.c)
	tried, got := 0, map[string]int{}
	chosen := map[string][]string{
		"kill":  {"after driver disabled done", "after driver initialised done", points[sample.Draw(by, len(points))]},
		"power": {"after driver disabled done"},
	}[by]
	for at, point := range points {
		key := fmt.Sprintf("%s %02d %s", filepath.Base(h.file), at+1, point)
		if results == nil && !slices.Contains(chosen, point) || results != nil && results.Has(key) {
			continue
		}
		if version, _, err := h.settled(killedWithin); err != nil {
			t.Fatal(err)
		} else if version == "new" {
			h.sh("lupatch rollback --yes " + h.c.module)
		}
		_, r, err := h.attempt(at+1, by)
		limit := killedWithin
		if by == "power" {
			if !errors.Is(err, lab.ErrEnded) {
				t.Fatalf("%s: the host did not go off: %v, %+v", key, err, r)
			}
			h.power()
			h.sh("lupatch recover --boot")
			limit = time.Second
		} else if err != nil || r.Code == 0 {
			t.Fatalf("%s: it was not killed: %v, %+v", key, err, r)
		}
		version, took, err := h.settled(limit)
		if err != nil {
			t.Fatalf("%s: %v", key, err)
		}
		tried++
		got[version]++
		t.Logf("%s: %s version after %s", key, version, took.Round(time.Millisecond))
		if results != nil {
			if err := results.Put(key, version, fmt.Sprintf("%.1f", took.Seconds())); err != nil {
				t.Fatal(err)
			}
		}
	}
	t.Logf("%d points of %d: %v", tried, len(points), got)
	if tried == 0 && results == nil {
		t.Error("no point was drawn")
	}
}
