// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"fmt"
	"strings"
)

// machineType is QEMU's board. The older one boots quicker, and only behind its
// additional host bridge do the interrupt lines of conventional cards arrive
// (QEMU 7.2); an IOMMU and SMM need the other one.
func (c *Config) machineType() string {
	switch {
	case c.UEFI != nil && c.UEFI.SecureBoot:
		return "q35,smm=on"
	case c.IOMMU:
		return "q35"
	}
	return "pc"
}

// nodeBus is the PCI bus on the second NUMA node.
const nodeBus = "node1"

// platformArgs are QEMU's arguments for nodes and IOMMU. They come before the
// devices: QEMU wants an IOMMU to be there first.
func (c *Config) platformArgs() []string {
	var args []string
	if c.IOMMU {
		// Without interrupt remapping, which needs more of the accelerator and
		// of the kernel than drivers can see.
		args = append(args, "-device", "intel-iommu,intremap=off")
	}
	if c.NUMA {
		first := c.CPUs / 2
		for node, n := range []struct{ memory, from, to int }{
			{c.Memory / 2, 0, first - 1}, {c.Memory - c.Memory/2, first, c.CPUs - 1},
		} {
			args = append(args,
				"-object", fmt.Sprintf("memory-backend-ram,id=mem%d,size=%dM", node, n.memory),
				"-numa", fmt.Sprintf("node,nodeid=%d,memdev=mem%d,cpus=%d-%d", node, node, n.from, n.to))
		}
		args = append(args, "-device", "pxb,id="+nodeBus+",bus_nr=128,numa_node=1,bus="+rootBus)
	}
	return args
}

// platformCmdline is what the kernel has to be told.
func (c *Config) platformCmdline() []string {
	if c.IOMMU {
		return []string{"intel_iommu=on"}
	}
	return nil
}

// rootBus is the older board's own bus. It has to be named where there are two:
// QEMU takes the one that was made last.
const rootBus = "pci.0"

// agentPlace gives the properties that put the agent's port on a bus.
func (c *Config) agentPlace() string {
	if c.NUMA {
		return ",bus=" + rootBus
	}
	return ""
}

// nicPlace gives the properties that put a card on a bus. A virtio device
// bypasses an IOMMU unless it offers VIRTIO_F_ACCESS_PLATFORM (virtio 1.1, 6.1),
// which only its modern interface can.
func (c *Config) nicPlace(model string, i int) string {
	if c.NUMA {
		return fmt.Sprintf(",bus=%s,addr=%x", nodeBus, i+1)
	}
	if c.IOMMU && strings.HasPrefix(model, "virtio") {
		return ",disable-legacy=on,disable-modern=off,iommu_platform=on"
	}
	return ""
}
