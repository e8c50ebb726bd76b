// SPDX-License-Identifier: Apache-2.0

package shadowtest

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
)

// The variants of a driver. Same and Newer are the distribution's source as it is,
// of the kernel's version and of the newest; all others are the kernel's with one
// thing altered.
const (
	// Same is the kernel's own version, compiled again.
	Same = "same"
	// Newer is the newest version that the archives carry for the kernel's series.
	Newer = "newer"
	// Grown has 2 KiB more at the begin of its private structure.
	Grown = "grown"
	// Feature offers one more feature that can be switched: loopback.
	Feature = "feature"

	// ProbeEarly fails with -ENODEV before it does anything in its probe.
	ProbeEarly = "probe-early"
	// ProbeLate fails with -ENODEV where it would register its network device.
	ProbeLate = "probe-late"
	// OpenFails gives -EIO from ndo_open.
	OpenFails = "open-fails"
	// FeatureLost cannot compute transmit checksums (nor, thereby, segment TCP).
	FeatureLost = "feature-lost"
	// OpLost lacks an ethtool operation: e1000 nway_reset, virtio_net set_ringparam.
	OpLost = "op-lost"
	// TooBig has 64 KiB more at the begin of its private structure.
	TooBig = "too-big"
	// NoLoad needs a symbol that nobody exports.
	NoLoad = "no-load"
	// WrongVermagic says that it is for another kernel.
	WrongVermagic = "wrong-vermagic"
	// NoCarrier never reports a link.
	NoCarrier = "no-carrier"
	// OopsProbe writes to address 0 in its probe, right after it has allocated its
	// network device.
	OopsProbe = "oops-probe"
)

// edit replaces a text in a file of the driver's folder. It has to be there exactly
// as often as times says (0: once).
type edit struct {
	file, old, new string
	times          int
}

// driver is what is known of a driver that can be altered.
type driver struct {
	dir      string
	variants map[string][]edit
}

// plain are the drivers of which there are only Same and Newer, by folder.
var plain = map[string]string{
	"e1000e":     "drivers/net/ethernet/intel/e1000e",
	"pcnet32":    "drivers/net/ethernet/amd",
	"8139cp":     "drivers/net/ethernet/realtek",
	"vmxnet3":    "drivers/net/vmxnet3",
	"ne2k_pci":   "drivers/net/ethernet/8390",
	"8390":       "drivers/net/ethernet/8390",
	"mii":        "drivers/net",
	"e100":       "drivers/net/ethernet/intel",
	"r8169":      "drivers/net/ethernet/realtek",
	"igb":        "drivers/net/ethernet/intel/igb",
	"virtio_blk": "drivers/block",
}

var drivers = map[string]driver{
	"e1000": {"drivers/net/ethernet/intel/e1000", map[string][]edit{
		Grown:      {{file: "e1000.h", old: "struct e1000_adapter {\n", new: "struct e1000_adapter {\n\tu8 lupatch_room[2048];\n"}},
		TooBig:     {{file: "e1000.h", old: "struct e1000_adapter {\n", new: "struct e1000_adapter {\n\tu8 lupatch_room[65536];\n"}},
		Feature:    {{file: "e1000_main.c", old: "netdev->hw_features |= (NETIF_F_RXCSUM |", new: "netdev->hw_features |= (NETIF_F_LOOPBACK | NETIF_F_RXCSUM |"}},
		ProbeEarly: {{file: "e1000_main.c", old: "\t/* do not allocate ioport bars when not needed */\n\tneed_ioport", new: "\tif (pdev)\n\t\treturn -ENODEV;\n\tneed_ioport", times: 1}},
		ProbeLate:  {{file: "e1000_main.c", old: "err = register_netdev(netdev);", new: "err = -ENODEV;"}},
		OpenFails:  {{file: "e1000_main.c", old: "\t/* disallow open during test */", new: "\tif (netdev)\n\t\treturn -EIO;\n"}},
		FeatureLost: {
			{file: "e1000_main.c", old: "netdev->hw_features = NETIF_F_SG |\n\t\t\t\t   NETIF_F_HW_CSUM |", new: "netdev->hw_features = NETIF_F_SG |"},
		},
		OpLost:    {{file: "e1000_ethtool.c", old: ".nway_reset\t\t= e1000_nway_reset,", new: ".nway_reset\t\t= 0 ? e1000_nway_reset : NULL,"}},
		NoLoad:    {{file: "e1000_main.c", old: "static int __init e1000_init_module(void)\n{\n\tint ret;\n", new: "void lupatch_no_such_symbol(void);\nstatic int __init e1000_init_module(void)\n{\n\tint ret;\n\tlupatch_no_such_symbol();\n"}},
		NoCarrier: {{file: "e1000_main.c", old: "netif_carrier_on(netdev);", new: "netif_carrier_off(netdev);"}},
		OopsProbe: {{file: "e1000_main.c", old: "\tSET_NETDEV_DEV(netdev, &pdev->dev);\n", new: "\tSET_NETDEV_DEV(netdev, &pdev->dev);\n\tWRITE_ONCE(*(int *)NULL, 1);\n"}},
	}},
	"virtio_net": {"drivers/net", map[string][]edit{
		Grown:      {{file: "virtio_net.c", old: "struct virtnet_info {\n", new: "struct virtnet_info {\n\tu8 lupatch_room[2048];\n"}},
		TooBig:     {{file: "virtio_net.c", old: "struct virtnet_info {\n", new: "struct virtnet_info {\n\tu8 lupatch_room[65536];\n"}},
		Feature:    {{file: "virtio_net.c", old: "\tdev->features = NETIF_F_HIGHDMA;\n", new: "\tdev->features = NETIF_F_HIGHDMA;\n\tdev->hw_features |= NETIF_F_LOOPBACK;\n"}},
		ProbeEarly: {{file: "virtio_net.c", old: "\t/* Find if host supports multiqueue/rss virtio_net device */\n", new: "\tif (vdev)\n\t\treturn -ENODEV;\n"}},
		ProbeLate:  {{file: "virtio_net.c", old: "err = register_netdevice(dev);", new: "err = -ENODEV;"}},
		OpenFails:  {{file: "virtio_net.c", old: "static int virtnet_open(struct net_device *dev)\n{\n\tstruct virtnet_info *vi = netdev_priv(dev);\n\tint i, err;\n", new: "static int virtnet_open(struct net_device *dev)\n{\n\tstruct virtnet_info *vi = netdev_priv(dev);\n\tint i, err;\n\n\tif (vi)\n\t\treturn -EIO;\n"}},
		FeatureLost: {
			{file: "virtio_net.c", old: "NETIF_F_HW_CSUM | NETIF_F_SG;", new: "NETIF_F_SG;", times: 2},
		},
		OpLost: {{file: "virtio_net.c", old: ".set_ringparam = virtnet_set_ringparam,", new: ".set_ringparam = 0 ? virtnet_set_ringparam : NULL,"}},
		NoLoad: {{file: "virtio_net.c", old: "static __init int virtio_net_driver_init(void)\n{\n\tint ret;\n", new: "void lupatch_no_such_symbol(void);\nstatic __init int virtio_net_driver_init(void)\n{\n\tint ret;\n\tlupatch_no_such_symbol();\n"}},
		NoCarrier: {
			{file: "virtio_net.c", old: "netif_carrier_on(dev);", new: "netif_carrier_off(dev);"},
			{file: "virtio_net.c", old: "netif_carrier_on(vi->dev);", new: "netif_carrier_off(vi->dev);"},
		},
		OopsProbe: {{file: "virtio_net.c", old: "\t/* Set up network device as normal. */\n", new: "\tWRITE_ONCE(*(int *)NULL, 1);\n"}},
	}},
}

// Variants lists the variants that there are of a driver.
func Variants(name string) []string {
	out := []string{Same, Newer}
	if d, ok := drivers[name]; ok {
		out = append(out, WrongVermagic)
		out = append(out, slices.Sorted(maps.Keys(d.variants))...)
	}
	return out
}

// folder is where a driver's source lies.
func folder(name string) (string, error) {
	if d, ok := drivers[name]; ok {
		return d.dir, nil
	}
	if dir, ok := plain[name]; ok {
		return dir, nil
	}
	return "", fmt.Errorf("the driver %s is not one of those for tests", name)
}

// changed gives the files of a variant, by path relative to the source's root.
func changed(root, name, variant string) (map[string][]byte, error) {
	d := drivers[name]
	edits := d.variants[variant]
	if edits == nil {
		return nil, fmt.Errorf("there is no variant %s of %s", variant, name)
	}
	out := map[string][]byte{}
	for _, e := range edits {
		p := filepath.Join(d.dir, e.file)
		if out[p] == nil {
			b, err := os.ReadFile(filepath.Join(root, p))
			if err != nil {
				return nil, err
			}
			out[p] = b
		}
		if n := bytes.Count(out[p], []byte(e.old)); n != max(e.times, 1) {
			return nil, fmt.Errorf("making the variant %s of %s: %q is %d times in %s", variant, name, e.old, n, p)
		}
		out[p] = bytes.ReplaceAll(out[p], []byte(e.old), []byte(e.new))
	}
	return out, nil
}
