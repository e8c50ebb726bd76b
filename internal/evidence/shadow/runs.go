// SPDX-License-Identifier: Apache-2.0

package main

import "github.com/lupatch/lupatch/shadow/shadowtest"

const release = "6.1.0-47-amd64"

// card is a network card that QEMU has.
type card struct {
	model, module string
	// needs are modules that find the card; options of QEMU's device.
	needs   string
	options []string
}

var (
	virtioNet = card{model: "virtio-net-pci", module: "virtio_net", needs: "virtio_pci"}
	virtioMQ  = card{model: "virtio-net-pci", module: "virtio_net", needs: "virtio_pci", options: []string{"mq=on", "vectors=6"}}
	intel     = card{model: "e1000", module: "e1000"}
)

// one is a series of replacements on one host.
type one struct {
	name string
	card card
	// versions are gone through, and back again.
	versions []string
	swaps    int
	debug    bool // the kernel with KASAN and lockdep
	pads     bool // no driver comes to lie where its predecessor was
	load     bool // pollers, a traffic shaper, a VLAN
	numa     bool
	iommu    bool
	cmdline  []string
	idle     bool // nothing is replaced: what does the module cost?
}

// poisoned has the allocator check and poison every object. ACPI's interpreter, which
// each enabling of a PCI device runs, takes seconds then: it is left out.
var poisoned = []string{"slub_debug=FZPU", "acpi=noirq"}

var up = []string{shadowtest.Newer, shadowtest.Grown}

var runs = []one{
	{name: "versions virtio_net", card: virtioNet, versions: []string{shadowtest.Newer, shadowtest.Grown, shadowtest.Feature}, swaps: 12},
	{name: "versions e1000", card: intel, versions: []string{shadowtest.Newer, shadowtest.Grown, shadowtest.Feature}, swaps: 12},
	{name: "versions e1000e", card: card{model: "e1000e", module: "e1000e"}, versions: []string{shadowtest.Newer}, swaps: 6},
	{name: "versions pcnet32", card: card{model: "pcnet", module: "pcnet32"}, versions: []string{shadowtest.Newer}, swaps: 6},
	{name: "versions 8139cp", card: card{model: "rtl8139", module: "8139cp"}, versions: []string{shadowtest.Newer}, swaps: 6},
	{name: "versions vmxnet3", card: card{model: "vmxnet3", module: "vmxnet3"}, versions: []string{shadowtest.Newer}, swaps: 6},
	{name: "versions ne2k_pci", card: card{model: "ne2k_pci", module: "ne2k_pci"}, versions: []string{shadowtest.Newer}, swaps: 6},
	{name: "numa e1000", card: intel, versions: up[:1], swaps: 4, numa: true},
	{name: "numa virtio_net", card: virtioMQ, versions: up[:1], swaps: 4, numa: true},
	{name: "iommu e1000", card: intel, versions: up[:1], swaps: 4, iommu: true},
	{name: "iommu virtio_net", card: virtioMQ, versions: up[:1], swaps: 4, iommu: true},
	{name: "poisoned virtio_net", card: virtioNet, versions: up, swaps: 12, cmdline: poisoned, pads: true},
	{name: "poisoned e1000", card: intel, versions: up, swaps: 12, cmdline: poisoned, pads: true},
	{name: "debug e1000", card: intel, versions: up[:1], swaps: 40, debug: true, pads: true},
	{name: "debug virtio_net", card: virtioNet, versions: up[:1], swaps: 40, debug: true, pads: true},
	{name: "many virtio_net", card: virtioNet, versions: up[:1], swaps: 200},
	{name: "many e1000", card: intel, versions: up[:1], swaps: 50},
	{name: "idle virtio_net", card: virtioNet, idle: true},
	{name: "load virtio_net", card: virtioNet, versions: up[:1], swaps: 200, load: true},
}
