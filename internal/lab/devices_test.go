// SPDX-License-Identifier: Apache-2.0

package lab_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lupatch/lupatch/internal/kmodule"
	"github.com/lupatch/lupatch/internal/lab"
	"github.com/lupatch/lupatch/internal/lab/labtest"
)

// TestLabDeviceTables compares the tables with the QEMU and the kernel they are about.
func TestLabDeviceTables(t *testing.T) {
	t.Parallel()
	tree, err := kmodule.Open(labtest.Kernel(t, labtest.Release).Modules())
	if err != nil {
		t.Fatal(err)
	}
	for _, table := range []map[string][]string{lab.NICModels, lab.DiskModels, lab.SoundModels} {
		for model, modules := range table {
			if order, err := tree.Closure(modules...); err != nil || len(order) == 0 {
				t.Errorf("%s: %v", model, err)
			}
		}
	}
	for _, table := range []map[string][]string{lab.NICModels, lab.SoundModels} {
		for model := range table {
			if out, err := lab.AskEmulator(t.Context(), "-device", model+",help"); err != nil {
				t.Errorf("QEMU has no %s: %v\n%s", model, err, out)
			}
		}
	}
}

// TestLabDevices boots with a device of each kind and finds it driven.
func TestLabDevices(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	image := filepath.Join(dir, "a,b.img") // a comma separates QEMU's options
	if err := os.WriteFile(image, append([]byte("magic"), make([]byte, 1<<20-5)...), 0o644); err != nil {
		t.Fatal(err)
	}
	h := labtest.Boot(t, lab.Config{
		NICs:      []lab.NIC{{Model: "virtio-net-pci"}, {Model: "e1000e"}},
		Disks:     []lab.Disk{{Model: "nvme", Image: image}, {Model: "virtio", Size: 8 << 20}, {Model: "ahci", Size: 4 << 20, Image: "", ReadOnly: false}},
		Sounds:    []lab.Sound{{Model: "intel-hda"}},
		Modules:   []string{"loop"},
		Available: []string{"ext4"},
		CPUs:      1,
	})
	for _, name := range []string{"eth0", "eth1"} {
		if ifc, err := h.WaitNetwork(t.Context(), name); err != nil {
			t.Errorf("%+v, %v", ifc, err)
		}
	}
	// Interfaces are named in the order in which the drivers loaded; their
	// addresses go by the card.
	if got := labtest.Sh(t, h, "cat /sys/class/net/eth*/address; ip -4 -o addr | grep -o '10.0..*/24' | sort; ip route | grep default"); got !=
		"52:54:00:4c:55:00\n52:54:00:4c:55:01\n10.0.2.15/24\n10.0.3.15/24\ndefault via 10.0.2.2 dev eth0 " {
		t.Errorf("network: %q", got)
	}
	labtest.Sh(t, h, "for i in $(seq 100); do test -b /dev/nvme0n1 -a -b /dev/vda -a -b /dev/sda && break; sleep 0.1; done")
	if got := labtest.Sh(t, h, "head -c5 /dev/nvme0n1; cat /sys/block/vda/size /sys/block/sda/size"); got != "magic16384\n8192" {
		t.Errorf("disks: %q", got)
	}
	labtest.Sh(t, h, "echo written > /dev/vda; sync")
	if got := labtest.Sh(t, h, "cat /proc/asound/cards; ls /dev/snd"); !strings.Contains(got, "HDA-Intel") || !strings.Contains(got, "pcmC0D0p") {
		t.Errorf("sound: %q", got)
	}
	labtest.Sh(t, h, "grep -q ^loop /proc/modules && ! grep -q -e ^ext4 -e ^crc32c /proc/modules && test $(nproc) = 1")
	// A soft dependency on an alias: crypto-crc32c.
	if err := h.Modprobe(t.Context(), "ext4", ""); err != nil {
		t.Fatal(err)
	}
	labtest.Sh(t, h, "grep -q ext4 /proc/filesystems && grep -q '^crc32c_generic ' /proc/modules && modprobe ext4")
}

// TestLabLeavesThingsAlone: drivers and network only if wanted.
func TestLabLeavesThingsAlone(t *testing.T) {
	t.Parallel()
	h := labtest.Boot(t, lab.Config{NICs: []lab.NIC{{Model: "e1000"}}, NoDrivers: true, ManualNetwork: true, Cmdline: []string{"lupatchtest"}})
	labtest.Sh(t, h, "! grep -q ^e1000 /proc/modules && ! test -e /sys/class/net/eth0 && grep -q lupatchtest /proc/cmdline")
	if err := h.Modprobe(t.Context(), "e1000", ""); err != nil {
		t.Fatal(err)
	}
	if got := labtest.Sh(t, h, "ip -4 -o addr show dev eth0; cat /sys/class/net/eth0/operstate"); got != "down" {
		t.Errorf("eth0: %q", got)
	}
}

// TestLabSerialAgent: the second serial port does it too, slowly, and no module
// is loaded for it.
func TestLabSerialAgent(t *testing.T) {
	t.Parallel()
	h := labtest.Boot(t, lab.Config{SerialAgent: true, CPUs: 1})
	labtest.Sh(t, h, "test ! -s /proc/modules")
	data := random(30_000)
	if err := h.Put(t.Context(), "/root/x", data, 0o600); err != nil {
		t.Fatal(err)
	}
	if back, err := h.Get(t.Context(), "/root/x"); err != nil || !bytes.Equal(back, data) {
		t.Errorf("%d bytes came back, %v", len(back), err)
	}
	// Output while input comes: nothing gets lost in either direction.
	r, err := h.Run(t.Context(), lab.Cmd{Argv: []string{"cat"}, Stdin: bytes.NewReader(data)})
	if err != nil || !bytes.Equal(r.Stdout, data) {
		t.Errorf("%d bytes came through, %v", len(r.Stdout), err)
	}
}
