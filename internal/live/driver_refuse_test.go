// SPDX-License-Identifier: Apache-2.0

package live

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lupatch/lupatch/internal/lab"
	"github.com/lupatch/lupatch/internal/refuse"
	"github.com/lupatch/lupatch/internal/sample"
	"github.com/lupatch/lupatch/shadow/shadowtest"
)

// program builds a static Go program of this repository for the guest.
func program(t *testing.T, name, source string, args ...string) string {
	t.Helper()
	return made.get(t, name, func(ctx context.Context, dir string) (string, error) {
		bin := filepath.Join(dir, name)
		cmd := exec.CommandContext(ctx, "go", append(append([]string{"build", "-trimpath", "-buildvcs=false"}, args...), "-o", bin, source)...)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			return "", fmt.Errorf("%w\n%s", err, out)
		}
		return bin, nil
	})
}

var (
	untested = card{"i82557b", "e100", ""}
	disk     = card{module: "virtio_blk"}
)

// TestDriverRefused meets on one host what rules a replacement out. Each is refused
// by name, and nothing has been stopped: the drivers that run are the same, their
// cards have not missed a link, and the journal is empty.
func TestDriverRefused(t *testing.T) {
	t.Parallel()
	g := driverHost(t, lab.Config{
		NICs: []lab.NIC{{Model: e1000.model}, {Model: untested.model}}, Disks: []lab.Disk{{Model: "virtio", Size: 1 << 20}},
		Files: []lab.File{{Path: "/root/xdp", Host: program(t, "xdp", "./xdp"), Mode: 0o755}},
	}, virtio)
	g.sh("for m in e1000 e100 virtio_blk; do modprobe $m; done")
	names := map[card]string{}
	for _, c := range []card{virtio, e1000, untested} {
		names[c] = g.sh("basename $(ls -d /sys/bus/*/drivers/" + c.module + "/*/net/*)")
		if _, err := g.WaitNetwork(t.Context(), names[c]); err != nil {
			t.Fatal(err)
		}
	}
	look := "cat /sys/class/net/*/carrier_changes; cat /sys/module/{e1000,e100,virtio_net,virtio_blk}/notes/.note.gnu.build-id | md5sum; ls -l /sys/class/net; cat /proc/net/dev | wc -l"
	look = strings.Replace(look, "{e1000,e100,virtio_net,virtio_blk}", "*", 1)
	before := g.sh(look)
	files := map[card]string{}
	for _, c := range []card{virtio, e1000, untested, disk} {
		files[c] = g.variant(c, shadowtest.Newer)
	}

	g.run("no shadow class", func(g guest) {
		g.refused(refuse.NoShadowClass, []string{"a disk"}, "apply", files[disk])
	})
	g.run("untested driver", func(g guest) {
		g.refused(refuse.DriverUntested, []string{"e100", "virtio_net"}, "apply", files[untested])
		g.succeed(&struct{}{}, "apply", "--dry-run", "--untested-driver", files[untested])
	})
	g.run("XDP in the driver", func(g guest) {
		stop := g.hold("driver", names[virtio])
		g.refused(refuse.DriverXDP, []string{names[virtio]}, "apply", files[virtio])
		stop()
		g.succeed(&struct{}{}, "apply", "--dry-run", files[virtio])
	})
	g.run("AF_XDP", func(g guest) {
		stop := g.hold("socket", names[e1000])
		g.refused(refuse.DriverAFXDP, []string{names[e1000]}, "apply", files[e1000])
		// Debian's kernels have no xsk_diag, so that nobody can tell whose card it is.
		g.refused(refuse.DriverAFXDP, []string{"xsk_diag"}, "apply", files[virtio])
		stop()
		g.succeed(&struct{}{}, "apply", "--dry-run", files[e1000])
	})
	if after := g.sh(look); after != before {
		t.Errorf("refusals have changed something:\n%s\nwas\n%s", after, before)
	}
	g.run("a livepatch in force", func(g guest) {
		g.apply(update(t, "mtu"))
		g.refused(refuse.DriverPatched, []string{"lupatch_mtu"}, "apply", files[e1000])
		g.rollback()
		g.succeed(&struct{}{}, "apply", "--dry-run", files[e1000])
	})
	g.run("not loaded", func(g guest) {
		g.sh("rmmod e100")
		g.refused(refuse.DriverNotLoaded, []string{"e100"}, "apply", "--untested-driver", files[untested])
	})
	g.run("built in", func(g guest) {
		// Debian builds e1000 as a module: that it is part of the image is what the
		// list of the kernel's package says, and lupatch has nothing else to go by.
		g.sh("rmmod e1000; d=/lib/modules/$(uname -r); mv $(find $d/kernel -name 'e1000.ko') /root/shipped.ko; echo kernel/drivers/net/ethernet/intel/e1000/e1000.ko >> $d/modules.builtin")
		g.refused(refuse.DriverBuiltIn, []string{"e1000"}, "apply", files[e1000])
	})
	g.run("no shadow", func(g guest) {
		g.rmmod("lupatch_shadow")
		g.sh("rm /lib/modules/$(uname -r)/updates/lupatch/lupatch_shadow.ko")
		g.refused(refuse.ShadowMissing, nil, "apply", files[virtio])
		if r, err := g.Exec(g.t.Context(), "lupatch", "shadow", "status", "--json"); err != nil {
			g.t.Fatal(err)
		} else {
			g.checkRefusal(r, refuse.ShadowMissing)
		}
	})
	if s := g.sh("lupatch status --json"); strings.Contains(s, `"open"`) {
		t.Errorf("a change is open: %s", s)
	}
}

// TestDriverVFs has virtual functions on a card: nobody keeps what they are in the middle
// of. Without them the same card may go.
func TestDriverVFs(t *testing.T) {
	t.Parallel()
	sample.OnlyThorough(t, "TestDriverRefused has other refusals")
	c := card{model: "igb", module: "igb"}
	g := driverHost(t, lab.Config{IOMMU: true}, c)
	file := g.variant(c, shadowtest.Newer)
	functions := g.sh("ls -d /sys/bus/pci/drivers/igb/0*") + "/sriov_numvfs"
	g.sh("echo 2 > " + functions)
	g.refused(refuse.DriverVFs, []string{"2 virtual functions"}, "apply", "--untested-driver", file)
	g.sh("echo 0 > " + functions)
	old := g.driverID(c)
	g.succeed(&struct{}{}, "apply", "--untested-driver", file)
	if g.driverID(c) == old {
		t.Error("the old driver runs")
	}
	g.succeed(&struct{}{}, "rollback", "--yes", c.module)
	if g.driverID(c) != old {
		t.Error("the old driver does not run again")
	}
}

// hold has a program take a card until it is told to stop.
func (g guest) hold(how, device string) (stop func()) {
	g.t.Helper()
	g.sh("mkfifo /tmp/hold")
	p := g.background(g.t.Context(), "sh", "-c", "/root/xdp "+how+" "+device+" < /tmp/hold > /tmp/held 2>&1")
	g.sh("(sleep 600 > /tmp/hold & echo $! > /tmp/holder); until grep . /tmp/held; do usleep 20000; done; grep ready /tmp/held")
	return func() {
		g.t.Helper()
		g.sh("kill $(cat /tmp/holder)")
		g.wait(p)
		g.sh("rm /tmp/hold /tmp/held")
	}
}

// TestDriverRace has other processes load the driver all the time while it is
// replaced: they never get it, and the replacement is none the worse for it.
func TestDriverRace(t *testing.T) {
	t.Parallel()
	sample.OnlyThorough(t, "TestDriverRefused has what is refused beforehand")
	c := virtio
	g := driverHost(t, lab.Config{Files: []lab.File{{Path: "/root/lupatch-crash", Host: crashing(t), Mode: 0o755}}}, c)
	s, err := g.StartStream(t.Context(), lab.StreamOptions{})
	if err != nil {
		t.Fatal(err)
	}
	old := g.driverID(c)
	file := g.variant(c, shadowtest.Newer)
	// The kernel says that it is there (EEXIST), or busy (EBUSY): nothing else.
	g.sh(`cat > /root/race <<'EOF'
ko=$(find /lib/modules -name virtio_net.ko)
while [ ! -e /tmp/over ]; do
	insmod $ko 2>> /tmp/race && echo "WON" >> /tmp/race
done
EOF
for i in 1 2 3; do sh /root/race > /dev/null 2>&1 & done`)
	for i, argv := range [][]string{{"apply", "--yes", "--probation", "0", file}, {"rollback", "--yes", c.module}} {
		// The gap is held open until somebody has met it.
		point := "after " + []string{"driver", "driver-rollback"}[i] + " disabled done:: > /tmp/race; until grep -qi busy /tmp/race; do usleep 20000; done"
		r, err := g.Run(t.Context(), lab.Cmd{Argv: append([]string{"/root/lupatch-crash"}, argv...), Env: []string{"LUPATCH_POINT_RUN=" + point}, Timeout: commandTime})
		if err != nil {
			t.Fatal(err)
		}
		if r.Code != 0 {
			t.Fatalf("%q: exit code %d\n%s%s\n%s", argv, r.Code, r.Stdout, r.Stderr, g.sh("sort /tmp/race | uniq -c; dmesg | tail -n 20"))
		}
		id := g.driverID(c)
		if (id == old) != (i == 1) {
			t.Errorf("%q: the driver that runs is %s, the shipped one %s", argv, id, old)
		}
		if out := g.sh("sort /tmp/race | uniq -c"); strings.Contains(out, "WON") || !strings.Contains(strings.ToLower(out), "busy") {
			t.Errorf("%q: others met\n%s", argv, out)
		} else {
			t.Logf("%s: others met\n%s", argv[0], out)
		}
	}
	g.sh(": > /tmp/over")
	st, err := s.Stop(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := st.Err(); err != nil {
		t.Error(err)
	}
}
