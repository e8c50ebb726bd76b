// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"fmt"
	"sort"
	"strings"

	"github.com/lupatch/lupatch/internal/lab/guest"
)

// Device models that QEMU has, with the modules of Debian's kernels that drive
// them.
var (
	NICModels = map[string][]string{
		"e1000":          {"e1000"},
		"e1000e":         {"e1000e"},
		"i82557b":        {"e100"},
		"igb":            {"igb"}, // PCI Express only; since QEMU 8.0
		"ne2k_pci":       {"ne2k-pci"},
		"pcnet":          {"pcnet32"},
		"rtl8139":        {"8139cp"},
		"tulip":          {"tulip"},
		"virtio-net-pci": {"virtio_pci", "virtio_net"},
		"vmxnet3":        {"vmxnet3"},
	}
	DiskModels = map[string][]string{
		"ahci":   {"ahci", "sd_mod"},
		"ide":    {"ata_piix", "sd_mod"},
		"nvme":   {"nvme"},
		"virtio": {"virtio_pci", "virtio_blk"},
	}
	SoundModels = map[string][]string{
		"AC97":           {"snd-intel8x0"},
		"ES1370":         {"snd-ens1370"},
		"intel-hda":      {"snd-hda-intel", "snd-hda-codec-generic"},
		"ich9-intel-hda": {"snd-hda-intel", "snd-hda-codec-generic"},
	}
)

// maxNICs is what fits on the PCI bus beside the rest.
const maxNICs = 8

func known(what string, models map[string][]string, model string) error {
	if _, ok := models[model]; ok {
		return nil
	}
	var all []string
	for m := range models {
		all = append(all, m)
	}
	sort.Strings(all)
	return fmt.Errorf("checking the lab host: %s model %q is unknown; there are %s", what, model, strings.Join(all, ", "))
}

// drivers lists the modules that the devices need.
func (c *Config) drivers() []string {
	var mods []string
	for _, n := range c.NICs {
		mods = append(mods, NICModels[n.Model]...)
	}
	for _, d := range c.Disks {
		mods = append(mods, DiskModels[d.Model]...)
	}
	for _, s := range c.Sounds {
		mods = append(mods, SoundModels[s.Model]...)
	}
	return mods
}

// networks gives each card a fixed address, so that the guest knows it again
// when its driver has been replaced. The first card has the default route.
func (c *Config) networks() []guest.Network {
	var nets []guest.Network
	for i := range c.NICs {
		n := guest.Network{MAC: macOf(i), Address: fmt.Sprintf("10.0.%d.15", 2+i)}
		if i == 0 {
			n.Gateway = "10.0.2.2"
		}
		nets = append(nets, n)
	}
	return nets
}

// macOf is in QEMU's range of locally administered addresses.
func macOf(i int) string { return fmt.Sprintf("52:54:00:4c:55:%02x", i) }

// escape doubles commas, which separate QEMU's options.
func escape(s string) string { return strings.ReplaceAll(s, ",", ",,") }

// deviceArgs are QEMU's arguments for cards, disks and sound.
func (c *Config) deviceArgs(images []string) []string {
	var args []string
	for i, n := range c.NICs {
		// No boot ROM: it costs time and needs files of another package.
		dev := fmt.Sprintf("%s,netdev=net%d,mac=%s,romfile=%s", n.Model, i, macOf(i), c.nicPlace(n.Model, i))
		for _, o := range n.Options {
			dev += "," + o
		}
		args = append(args, "-netdev", fmt.Sprintf("user,id=net%d,net=10.0.%d.0/24,ipv6=off", i, 2+i), "-device", dev)
	}
	for i, d := range c.Disks {
		drive := fmt.Sprintf("if=none,id=disk%d,format=raw,cache=unsafe,file=%s", i, escape(images[i]))
		if d.ReadOnly {
			drive += ",readonly=on"
		}
		args = append(args, "-drive", drive)
		switch d.Model {
		case "ahci":
			args = append(args, "-device", fmt.Sprintf("ahci,id=ahci%d", i), "-device", fmt.Sprintf("ide-hd,drive=disk%d,bus=ahci%d.0", i, i))
		case "ide":
			args = append(args, "-device", fmt.Sprintf("ide-hd,drive=disk%d", i))
		case "nvme":
			args = append(args, "-device", fmt.Sprintf("nvme,drive=disk%d,serial=lab%d", i, i))
		case "virtio":
			args = append(args, "-device", fmt.Sprintf("virtio-blk-pci,drive=disk%d", i))
		}
	}
	for i, s := range c.Sounds {
		audio := fmt.Sprintf("none,id=snd%d", i)
		if s.WAV != "" {
			audio = fmt.Sprintf("wav,id=snd%d,path=%s", i, escape(s.WAV))
		}
		args = append(args, "-audiodev", audio)
		switch s.Model {
		case "intel-hda", "ich9-intel-hda":
			args = append(args, "-device", fmt.Sprintf("%s,id=hda%d", s.Model, i), "-device", fmt.Sprintf("hda-duplex,audiodev=snd%d,bus=hda%d.0", i, i))
		default:
			args = append(args, "-device", fmt.Sprintf("%s,audiodev=snd%d", s.Model, i))
		}
	}
	return args
}
