// SPDX-License-Identifier: Apache-2.0

package compat

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/lupatch/lupatch/internal/kmodule"
	"github.com/lupatch/lupatch/internal/refuse"
	"github.com/lupatch/lupatch/kpatch"
)

// HostOptions say what is accepted.
type HostOptions struct {
	// Untested takes drivers that are not on the list of tested ones.
	Untested bool
}

// Facts are what there is to know of a driver's devices on a host.
type Facts struct {
	Module  string
	Devices []Device
	// Links are the network devices of Devices, in all network namespaces; none if
	// they were not asked for, see Host.
	Links []Link
}

// Host looks for what rules out the replacement of a module's driver on the running
// kernel, whatever the new driver is; each reason has an identifier of its own (see
// package refuse). The facts are given if there is a reason, too, as far as they were
// read. Nothing is changed, but the kernel may load its module for looking at AF_XDP
// sockets (xsk_diag) if there are such sockets.
//
// It needs root (other network namespaces). If k.Root is set, only files below it are read, and the kernel is asked nothing by
// netlink.
func Host(ctx context.Context, k *kpatch.Kernel, module string, opt HostOptions) (*Facts, []Finding, error) {
	module = kmodule.CanonicalName(module)
	var l findings
	f := &Facts{Module: module}
	release, err := k.Release()
	if err != nil {
		return nil, nil, err
	}
	if err := loaded(k, release, module); err != nil {
		e, ok := refuse.As(err)
		if !ok {
			return nil, nil, err
		}
		l.refuse(e.ID, e.Where, "%s", e.Detail)
		return f, l, nil
	}
	if f.Devices, err = devices(k, module); err != nil {
		return nil, nil, err
	}
	if len(f.Devices) == 0 {
		l.refuse(refuse.DriverNotLoaded, module, "no device is bound to it")
		return f, l, nil
	}
	if !checkClass(&l, k, f) {
		return f, l, nil
	}
	if !opt.Untested && !Tested(module) {
		l.refuse(refuse.DriverUntested, module, "its replacement has not been tested; tested are %s", strings.Join(TestedDrivers(), ", "))
	}
	if err := checkLivepatches(ctx, &l, k, module); err != nil {
		return nil, nil, err
	}
	for _, d := range f.Devices {
		checkVFs(&l, d)
		if err := checkChildren(&l, k, d); err != nil {
			return nil, nil, err
		}
	}
	if k.Root == "" {
		if f.Links, err = links(ctx, f.Devices); err != nil {
			return nil, nil, err
		}
		checkLinks(&l, f.Links)
	}
	return f, l, nil
}

// classes are the folders of a device that tell what it is to the rest of the
// kernel, with what a person calls it.
var classes = []struct{ folder, what string }{
	{"block", "a disk"}, {"nvme", "a disk controller"}, {"ata_port", "a disk controller"}, {"scsi_host", "a disk controller"},
	{"sound", "a sound card"}, {"drm", "a graphics card"}, {"input", "an input device"}, {"tty", "a serial port"},
	{"usb_host", "a USB controller"}, {"watchdog", "a watchdog"}, {"rtc", "a clock"}, {"tpm", "a TPM"},
}

// checkClass sees whether the devices are network cards; false if not.
func checkClass(l *findings, k *kpatch.Kernel, f *Facts) bool {
	for _, d := range f.Devices {
		// The folder is there, though empty, if its device is in another network
		// namespace than our sysfs.
		if exists(filepath.Join(d.Dir, "net")) {
			for _, n := range d.Nets {
				const ether = "1" // ARPHRD_ETHER
				if t := attr(d.Dir, "net", n, "type"); t != ether && t != "" {
					l.refuse(refuse.NoShadowClass, n, "it is a network device, but not an Ethernet card (type %s)", t)
					return false
				}
				if exists(filepath.Join(d.Dir, "net", n, "phy80211")) || exists(filepath.Join(d.Dir, "net", n, "wireless")) {
					l.refuse(refuse.DriverUses, n, "it is a wireless device, whose stations and keys are in the driver")
					return false
				}
			}
			continue
		}
		what := "of a class that lupatch does not know"
		for _, c := range classes {
			if exists(filepath.Join(d.Dir, c.folder)) || below(d.Dir, c.folder) {
				what = c.what
				break
			}
		}
		l.refuse(refuse.NoShadowClass, d.Name, "it is no network device but %s, for which there is no stand-in", what)
		return false
	}
	return true
}

// below says whether a folder of that name is two levels down (ata1/ata_port).
func below(dir, name string) bool {
	m, err := filepath.Glob(filepath.Join(dir, "*", name))
	return err == nil && len(m) > 0
}

func checkLivepatches(ctx context.Context, l *findings, k *kpatch.Kernel, module string) error {
	if k.Supported() != nil {
		return nil // a kernel without livepatches
	}
	list, err := k.List(ctx)
	if err != nil {
		return err
	}
	for _, p := range list {
		if slices.ContainsFunc(p.Objects, func(o kpatch.Object) bool { return o.Name == module }) && (p.Enabled || p.Transition) {
			l.refuse(refuse.DriverPatched, module, "the livepatch %s is in force on it", p.Name)
		}
	}
	return nil
}

func checkVFs(l *findings, d Device) {
	if n := attr(d.Dir, "sriov_numvfs"); n != "" && n != "0" {
		l.refuse(refuse.DriverVFs, d.Name, "%s virtual functions of it are enabled", n)
	}
}

// checkPool: an IOMMU that translates for the device is seen by the type of its
// group (Documentation/ABI/testing/sysfs-kernel-iommu_groups, since 5.11).
func checkPool(l *findings, d Device, images ...*Image) {
	kind := attr(d.Dir, "iommu_group", "type")
	if kind == "" || kind == "identity" {
		return
	}
	if slices.ContainsFunc(images, (*Image).pagePool) {
		l.refuse(refuse.DriverPagePool, d.Name, "its driver has a page pool, and an IOMMU translates for it (%s)", kind)
	}
}

// String is for plans: what is replaced.
func (f *Facts) String() string {
	var out []string
	for _, d := range f.Devices {
		s := d.Name
		if len(d.Nets) > 0 {
			s = fmt.Sprintf("%s (%s)", strings.Join(d.Nets, ", "), d.Name)
		}
		out = append(out, s)
	}
	return strings.Join(out, ", ")
}
