// SPDX-License-Identifier: Apache-2.0

package lab_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/lupatch/lupatch/internal/lab"
	"github.com/lupatch/lupatch/internal/lab/labtest"
	"github.com/lupatch/lupatch/internal/sample"
)

// TestLabNUMA boots with two nodes and asks the kernel where the cards are, and
// who probes their drivers.
func TestLabNUMA(t *testing.T) {
	sample.OnlyThorough(t, "TestLabIOMMU is the other surroundings of drivers")
	t.Parallel()
	h := labtest.Boot(t, lab.Config{NUMA: true, NICs: []lab.NIC{{Model: "e1000"}, {Model: "virtio-net-pci"}}})
	ctx := labtest.Context(t)
	if got := labtest.Sh(t, h, "cat /sys/devices/system/node/online"); got != "0-1" {
		t.Errorf("nodes online: %q", got)
	}
	checkCards(t, ctx, h, func(name string) {
		if node := device(t, h, name, "cat $d/numa_node"); node != "1" {
			t.Errorf("%s is on node %q", name, node)
		}
	})
	if err := h.Rmmod(ctx, "e1000"); err != nil {
		t.Fatal(err)
	}
	// The event is of a function that every probe of a driver goes through; it
	// has the task in its first column.
	labtest.Sh(t, h, "cd /sys/kernel/tracing && echo 'p:allocates alloc_netdev_mqs' > kprobe_events && echo 1 > events/kprobes/allocates/enable")
	if err := h.Modprobe(ctx, "e1000", ""); err != nil {
		t.Fatal(err)
	}
	if got := labtest.Sh(t, h, "grep allocates: /sys/kernel/tracing/trace"); !strings.Contains(got, "kworker/1:") {
		t.Errorf("the probe was not in a worker of the second processor: %s", got)
	}
	if _, err := h.WaitNetwork(ctx, "eth0"); err != nil {
		t.Fatal(err)
	}
}

// TestLabIOMMU boots with an IOMMU and asks the kernel whether the cards are
// behind it.
func TestLabIOMMU(t *testing.T) {
	t.Parallel()
	h := labtest.Boot(t, lab.Config{IOMMU: true, NICs: []lab.NIC{{Model: "e1000"}, {Model: "virtio-net-pci"}}})
	ctx := labtest.Context(t)
	checkCards(t, ctx, h, func(name string) {
		if got := device(t, h, name, "readlink $d/iommu_group; cat $d/iommu_group/type"); !strings.Contains(got, "iommu_groups/") || !strings.Contains(got, "DMA") {
			t.Errorf("%s is behind no IOMMU: %q", name, got)
		}
	})
	if !strings.Contains(h.Console(), "DMAR: Intel(R) Virtualization Technology for Directed I/O") {
		t.Error("the kernel has not turned the IOMMU on")
	}
	if got := device(t, h, "eth1", "cat $d/virtio*/features"); len(got) < 34 || got[33] != '1' {
		t.Errorf("the virtio card does not translate its addresses: features %s", got)
	}
}

// checkCards calls check for both cards and lets data go through them.
func checkCards(t *testing.T, ctx context.Context, h *lab.Host, check func(name string)) {
	t.Helper()
	for i := range 2 {
		name := fmt.Sprintf("eth%d", i)
		if _, err := h.WaitNetwork(ctx, name); err != nil {
			t.Fatal(err)
		}
		check(name)
	}
	s, err := h.StartStream(ctx, lab.StreamOptions{})
	if err != nil {
		t.Fatal(err)
	}
	waitStream(t, ctx, s, 1<<20)
	if st, err := s.Stop(ctx); err != nil || st.Err() != nil {
		t.Fatalf("%v, %v", err, st.Err())
	}
}

// device runs a script with $d the PCI device of an interface; a virtio
// interface stands on a device of its own.
func device(t *testing.T, h *lab.Host, name, script string) string {
	t.Helper()
	return labtest.Sh(t, h, "d=$(readlink -f /sys/class/net/"+name+"/device); case $d in */virtio*) d=${d%/*};; esac; "+script)
}
