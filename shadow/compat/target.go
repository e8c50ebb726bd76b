// SPDX-License-Identifier: Apache-2.0

package compat

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/lupatch/lupatch/internal/kmodule"
	"github.com/lupatch/lupatch/kpatch"
)

// Target is the host into which a new driver is to be loaded.
type Target struct {
	Kernel  *kpatch.Kernel
	Release string
	Exports *Exports
	// Devices are bound to the old driver.
	Devices []Device
	// Params are the parameters of the old driver in force.
	Params []Param
	// Firmware are the folders in which the kernel looks for it.
	Firmware []string

	tree   *kmodule.Tree
	loaded map[string]bool
}

// Device is one that is bound to a driver of the module.
type Device struct {
	// Name is that below /sys/bus/BUS/devices.
	Name, Bus, Driver string
	// Modalias is what the device is, in the form in which drivers claim it; empty if
	// its bus gives none.
	Modalias string
	// Nets are its network devices in the network namespace of this process's sysfs.
	Nets []string
	// Dir is its folder in sysfs, without links.
	Dir string
}

// ReadTarget looks at the running kernel for the replacement of a module. It needs
// root for parameters that only root may read.
func ReadTarget(k *kpatch.Kernel, old *Image) (*Target, error) {
	release, err := k.Release()
	if err != nil {
		return nil, err
	}
	name := old.Info.Name
	t := &Target{Kernel: k, Release: release, loaded: map[string]bool{}, Firmware: firmwareFolders(k, release)}
	if t.tree, err = kmodule.Open(k.Path("/lib/modules", release)); err != nil {
		return nil, err
	}
	list, err := k.Modules()
	if err != nil {
		return nil, err
	}
	for _, m := range list {
		t.loaded[m.Name] = true
	}
	if t.Exports, err = ReadExports(k, release); err != nil {
		return nil, err
	}
	mods, err := running(k, t.tree)
	if err != nil {
		return nil, err
	}
	for _, m := range append(mods, old) {
		t.Exports.Add(m, true)
	}
	if t.Devices, err = devices(k, name); err != nil {
		return nil, err
	}
	t.Params, err = readParams(k, name)
	return t, err
}

// devices lists what is bound to the drivers of a module: /sys/module/NAME/drivers
// has a link for each (kernel/module/main.c, module_add_driver).
func devices(k *kpatch.Kernel, module string) (out []Device, err error) {
	dir := k.Path("/sys/module", module, "drivers")
	links, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("listing the devices of %s: %w", module, err)
	}
	for _, l := range links {
		bus, driver, ok := strings.Cut(l.Name(), ":")
		if !ok {
			continue
		}
		folder := filepath.Join(dir, l.Name())
		entries, err := os.ReadDir(folder)
		if err != nil {
			return nil, fmt.Errorf("listing the devices of %s: %w", module, err)
		}
		for _, e := range entries {
			// Of the links there "module" leads to the module, all others to devices.
			if e.Type()&fs.ModeSymlink == 0 || e.Name() == "module" {
				continue
			}
			d := Device{Name: e.Name(), Bus: bus, Driver: driver}
			if d.Dir, err = filepath.EvalSymlinks(filepath.Join(folder, e.Name())); err != nil {
				return nil, fmt.Errorf("listing the devices of %s: %w", module, err)
			}
			d.Modalias = attr(d.Dir, "modalias")
			nets, err := os.ReadDir(filepath.Join(d.Dir, "net"))
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				return nil, fmt.Errorf("listing the devices of %s: %w", module, err)
			}
			for _, n := range nets {
				d.Nets = append(d.Nets, n.Name())
			}
			out = append(out, d)
		}
	}
	slices.SortFunc(out, func(a, b Device) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}

// attr reads an attribute; empty if it is not there or cannot be read.
func attr(elem ...string) string {
	b, err := os.ReadFile(filepath.Join(elem...))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

// firmwareFolders are searched in this order (drivers/base/firmware_loader/main.c,
// fw_path).
func firmwareFolders(k *kpatch.Kernel, release string) []string {
	out := []string{k.Path("/lib/firmware/updates", release), k.Path("/lib/firmware/updates"), k.Path("/lib/firmware", release), k.Path("/lib/firmware")}
	if p := attr(k.Path("/sys/module/firmware_class/parameters/path")); p != "" {
		out = append([]string{k.Path(p)}, out...)
	}
	return out
}

// FirmwareFile finds a firmware file, which may be compressed
// (CONFIG_FW_LOADER_COMPRESS, .xz since 5.3, .zst since 5.19); empty if it is not
// there.
func (t *Target) FirmwareFile(name string) string {
	for _, dir := range t.Firmware {
		for _, suffix := range []string{"", ".zst", ".xz"} {
			p := filepath.Join(dir, name+suffix)
			if st, err := os.Stat(p); err == nil && st.Mode().IsRegular() {
				return p
			}
		}
	}
	return ""
}

// claims says whether one of a driver's patterns is for a device.
func claims(patterns []string, modalias string) bool {
	// "/" is a letter like others in them, as in those of device trees.
	plain := strings.NewReplacer("/", "\x01")
	for _, p := range patterns {
		if ok, err := filepath.Match(plain.Replace(p), plain.Replace(modalias)); err == nil && ok {
			return true
		}
	}
	return false
}
