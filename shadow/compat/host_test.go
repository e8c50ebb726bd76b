// SPDX-License-Identifier: Apache-2.0

package compat

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/lupatch/lupatch/internal/refuse"
	"github.com/lupatch/lupatch/kpatch"
	"github.com/lupatch/lupatch/kpatch/kpatchtest"
)

const nic = "devices/pci0000:00/0000:00:03.0"

// host is a fabricated host with a network card of the module e1000.
type host struct {
	t *testing.T
	*kpatchtest.Kernel
	k *kpatch.Kernel
}

func newHost(t *testing.T) *host {
	h := &host{t: t, Kernel: kpatchtest.New(t.TempDir())}
	root, err := filepath.EvalSymlinks(h.Root)
	if err != nil {
		t.Fatal(err)
	}
	h.k = &kpatch.Kernel{Root: root, Sys: h.Kernel}
	h.put("/sys/"+nic+"/modalias", "pci:v00008086d0000100Esv00001AF4sd00001100bc02sc00i00\n")
	h.put("/sys/"+nic+"/net/eth0/type", "1\n")
	h.Bind("e1000", "e1000", "0000:00:03.0")
	h.put("/proc/1/mountinfo", "25 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n")
	return h
}

func (h *host) put(path, content string) {
	h.t.Helper()
	p := h.k.Path(path)
	if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
		h.t.Fatal(err)
	}
	if err := os.WriteFile(p, []byte(content), 0o644); err != nil {
		h.t.Fatal(err)
	}
}

func (h *host) link(to, path string) {
	h.t.Helper()
	p := h.k.Path(path)
	if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
		h.t.Fatal(err)
	}
	if err := os.Symlink(h.k.Path(to), p); err != nil {
		h.t.Fatal(err)
	}
}

// reasons gives the refusals of a list, as "ID WHERE: DETAIL".
func reasons(l []Finding) (out []string) {
	for _, f := range l {
		if f.ID != "" {
			out = append(out, string(f.ID)+" "+f.Where+": "+f.Detail)
		}
	}
	return out
}

func TestHostFit(t *testing.T) {
	h := newHost(t)
	// None of these stands in the way.
	h.put("/sys/"+nic+"/sriov_numvfs", "0\n")
	h.put("/sys/"+nic+"/iommu_group/type", "identity\n")
	h.AddForeign("vendor", "virtio_net", "virtnet_poll")
	f, l, err := Host(t.Context(), h.k, "e1000", HostOptions{})
	if err != nil || len(reasons(l)) > 0 {
		t.Fatalf("%v, %q", err, reasons(l))
	}
	if len(f.Devices) != 1 || f.Devices[0].Bus != "pci" || !slices.Equal(f.Devices[0].Nets, []string{"eth0"}) || f.String() != "eth0 (0000:00:03.0)" {
		t.Errorf("%+v", f)
	}
	if err := Refusal(l); err != nil {
		t.Error(err)
	}
}

func TestHostRefused(t *testing.T) {
	for name, c := range map[string]struct {
		prepare func(*host)
		missing []string
		module  string
		id      refuse.ID
		want    string
	}{
		"built in": {func(h *host) {
			h.put("/lib/modules/"+kpatchtest.Release+"/modules.builtin", "kernel/drivers/net/ethernet/intel/igb/igb.ko\n")
		}, nil, "igb", refuse.DriverBuiltIn, "modules.builtin"},
		"not loaded": {func(*host) {}, nil, "igb", refuse.DriverNotLoaded, "is not loaded"},
		"no device": {func(h *host) {
			h.AddModule("virtio_net", kpatchtest.BuildID("x"))
			h.Bind("virtio_net", "virtio_net")
		}, nil, "virtio_net", refuse.DriverNotLoaded, "no device is bound"},
		"a disk": {func(h *host) {
			h.AddModule("virtio_blk", kpatchtest.BuildID("x"))
			h.put("/sys/devices/pci0000:00/0000:00:04.0/block/vda/size", "1")
			h.Bind("virtio_blk", "virtio_blk", "0000:00:04.0")
		}, nil, "virtio-blk", refuse.NoShadowClass, "a disk"},
		"a disk controller": {func(h *host) {
			h.AddModule("ahci", kpatchtest.BuildID("x"))
			h.put("/sys/devices/pci0000:00/0000:00:04.0/ata1/ata_port/ata1/port_no", "1")
			h.Bind("ahci", "ahci", "0000:00:04.0")
		}, nil, "ahci", refuse.NoShadowClass, "a disk controller"},
		"sound": {func(h *host) {
			h.AddModule("snd_ens1370", kpatchtest.BuildID("x"))
			h.put("/sys/devices/pci0000:00/0000:00:04.0/sound/card0/id", "1")
			h.Bind("snd_ens1370", "snd_ens1370", "0000:00:04.0")
		}, nil, "snd_ens1370", refuse.NoShadowClass, "a sound card"},
		"something else": {func(h *host) {
			h.AddModule("i2c_piix4", kpatchtest.BuildID("x"))
			h.put("/sys/devices/pci0000:00/0000:00:04.0/modalias", "pci:x")
			h.Bind("i2c_piix4", "piix4_smbus", "0000:00:04.0")
		}, nil, "i2c_piix4", refuse.NoShadowClass, "does not know"},
		"CAN":      {func(h *host) { h.put("/sys/"+nic+"/net/eth0/type", "280\n") }, nil, "e1000", refuse.NoShadowClass, "not an Ethernet card"},
		"wireless": {func(h *host) { h.put("/sys/"+nic+"/net/eth0/phy80211/index", "0") }, nil, "e1000", refuse.DriverUses, "wireless"},
		"untested": {func(h *host) {
			h.AddModule("igb", kpatchtest.BuildID("x"))
			h.put("/sys/devices/pci0000:00/0000:00:04.0/net/eth1/type", "1")
			h.Bind("igb", "igb", "0000:00:04.0")
		}, nil, "igb", refuse.DriverUntested, "tested are e1000, virtio_net"},
		"livepatch": {func(h *host) { h.AddForeign("vendor", "e1000", "e1000_up") }, nil, "e1000", refuse.DriverPatched, "vendor"},
		"VFs":       {func(h *host) { h.put("/sys/"+nic+"/sriov_numvfs", "4\n") }, nil, "e1000", refuse.DriverVFs, "4 virtual functions"},
		"auxiliary": {func(h *host) {
			h.put("/sys/"+nic+"/mlx5_core.eth.0/uevent", "")
			h.link("/sys/"+nic+"/mlx5_core.eth.0", "/sys/bus/auxiliary/devices/mlx5_core.eth.0")
		}, nil, "e1000", refuse.DriverChildren, "mlx5_core.eth.0"},
		"RDMA": {func(h *host) { h.put("/sys/"+nic+"/infiniband/mlx5_0/node_type", "") }, nil, "e1000", refuse.DriverChildren, "RDMA"},
		"root over nfs": {func(h *host) {
			h.put("/proc/1/mountinfo", "25 1 8:1 / / rw - ext4 /dev/sda1 rw\n26 1 0:22 / / rw - nfs4 10.0.0.1:/srv/root rw,vers=4.2,addr=10.0.0.1\n")
		}, []string{"modprobe", "e1000.ko"}, "e1000", refuse.DriverRoot, "nfs4 from 10.0.0.1:/srv/root comes over a network device that cannot be told, and these are not in memory: modprobe, e1000.ko"},
		"root on iSCSI below LVM": {func(h *host) {
			h.put("/sys/devices/platform/host2/session1/target2:0:0/2:0:0:1/block/sdb/sdb2/partition", "2")
			h.put("/sys/class/iscsi_connection/connection1:0/persistent_address", "10.0.0.9\n")
			h.put("/sys/devices/virtual/block/dm-0/size", "1")
			h.link("/sys/devices/platform/host2/session1/target2:0:0/2:0:0:1/block/sdb/sdb2", "/sys/devices/virtual/block/dm-0/slaves/sdb2")
			h.link("/sys/devices/virtual/block/dm-0", "/sys/dev/block/253:0")
			h.put("/proc/1/mountinfo", "25 1 253:0 / / rw - ext4 /dev/mapper/vg-root rw\n")
		}, []string{"x"}, "e1000", refuse.DriverRoot, "the iSCSI disk sdb"},
		"usr on NVMe over TCP, btrfs": {func(h *host) {
			h.put("/sys/devices/virtual/nvme-subsystem/nvme-subsys3/nvme3n1/size", "1")
			h.link("/sys/devices/virtual/nvme-subsystem/nvme-subsys3/nvme3n1", "/sys/class/block/nvme3n1")
			h.put("/sys/class/nvme-subsystem/nvme-subsys3/nvme7/transport", "tcp\n")
			h.put("/proc/1/mountinfo", "25 1 8:1 / / rw - ext4 /dev/sda1 rw\n26 1 0:31 / /usr rw - btrfs /dev/nvme3n1 rw\n")
		}, []string{"x"}, "e1000", refuse.DriverRoot, "the NVMe disk nvme3n1 (tcp)"},
	} {
		h := newHost(t)
		c.prepare(h)
		f, l, err := Host(t.Context(), h.k, c.module, HostOptions{})
		if err == nil && c.missing != nil {
			var more []Finding
			more, err = CheckRoot(h.k, f, c.missing)
			l = append(l, more...)
		}
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		got := reasons(l)
		if len(got) != 1 || !strings.HasPrefix(got[0], string(c.id)+" ") || !strings.Contains(got[0], c.want) {
			t.Errorf("%s: %q, want %s: %q", name, got, c.id, c.want)
		}
		e, ok := refuse.As(Refusal(l))
		if !ok || e.ID != c.id {
			t.Errorf("%s: the refusal is %v", name, e)
		}
	}
}

// What was unmounted or hidden does not count, nor what is in memory.
func TestRootElsewhere(t *testing.T) {
	for name, mounts := range map[string]string{
		"hidden":  "25 1 0:22 / / rw - nfs 10.0.0.1:/ rw,addr=10.0.0.1\n26 1 8:1 / / rw - ext4 /dev/sda1 rw\n",
		"tmpfs":   "25 1 0:22 / / rw - tmpfs tmpfs rw\n",
		"another": "25 1 8:1 / / rw - ext4 /dev/sda1 rw\n26 1 0:22 / /home rw - nfs 10.0.0.1:/ rw,addr=10.0.0.1\n",
	} {
		h := newHost(t)
		h.put("/proc/1/mountinfo", mounts)
		if l, err := CheckRoot(h.k, h.facts(), []string{"x"}); err != nil || len(l) > 0 {
			t.Errorf("%s: %v, %q", name, err, reasons(l))
		}
	}
	h := newHost(t)
	h.put("/proc/1/mountinfo", "25 1 0:22 / / rw - nfs 10.0.0.1:/ rw,addr=10.0.0.1\n")
	if l, err := CheckRoot(h.k, h.facts(), nil); err != nil || len(l) > 0 {
		t.Errorf("all in memory: %v, %q", err, reasons(l))
	}
}

func (h *host) facts() *Facts {
	h.t.Helper()
	f, l, err := Host(h.t.Context(), h.k, "e1000", HostOptions{})
	if err != nil || len(reasons(l)) > 0 {
		h.t.Fatalf("%v, %q", err, reasons(l))
	}
	return f
}

func TestUntestedDriver(t *testing.T) {
	h := newHost(t)
	h.AddModule("igb", kpatchtest.BuildID("x"))
	h.put("/sys/devices/pci0000:00/0000:00:04.0/net/eth1/type", "1")
	h.Bind("igb", "igb", "0000:00:04.0")
	if _, l, err := Host(t.Context(), h.k, "igb", HostOptions{Untested: true}); err != nil || len(reasons(l)) > 0 {
		t.Errorf("%v, %q", err, reasons(l))
	}
}

// All reasons are told at once.
func TestSeveralReasons(t *testing.T) {
	h := newHost(t)
	h.put("/sys/"+nic+"/sriov_numvfs", "4\n")
	h.AddForeign("vendor", "e1000", "e1000_up")
	_, l, err := Host(t.Context(), h.k, "e1000", HostOptions{})
	if err != nil {
		t.Fatal(err)
	}
	e, ok := refuse.As(Refusal(l))
	if !ok || e.ID != refuse.DriverPatched || !strings.Contains(e.Help, "also: driver-vfs: 0000:00:03.0: 4 virtual functions") {
		t.Errorf("%+v", e)
	}
}

func image(t *testing.T, d kpatchtest.Driver) *Image {
	t.Helper()
	i, err := NewImage(d.Name+".ko", d.Image())
	if err != nil {
		t.Fatal(err)
	}
	return i
}
