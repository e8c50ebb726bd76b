// SPDX-License-Identifier: Apache-2.0

package instances

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/lupatch/lupatch/internal/netns"
)

// Bound is a device with the driver it is bound to, and what others hold of it.
type Bound struct {
	Device
	// Module has the driver; empty if it is part of the kernel image.
	Module string `json:"module,omitempty"`
	// Class is the kind of objects the driver made for it: net, block, sound, or
	// empty for another.
	Class string `json:"class,omitempty"`
	// Interfaces are its network interfaces, Objects its disks or sound cards.
	Interfaces []Interface `json:"interfaces,omitempty"`
	Objects    []string    `json:"objects,omitempty"`
	// Path is its folder below /sys/devices.
	Path string `json:"path"`
}

// Interface is a network interface of a device.
type Interface struct {
	Name  string `json:"name"`
	Index int    `json:"ifindex"`
	// NetNS is the inode of its network namespace, Namespace the name of that
	// ("host" for the first process's, "own" for lupatch's where nobody tells).
	NetNS     uint32 `json:"netns,omitempty"`
	Namespace string `json:"namespace"`
	// Up says that it is set up, Carrier that it has a link.
	Up      bool `json:"up"`
	Carrier bool `json:"carrier"`
	// Wireless is set for what cfg80211 manages.
	Wireless bool `json:"wireless,omitempty"`
}

// List gives the devices of the kernel whose sysfs lies below root (empty for the
// running one): without a name those that have a network interface, a disk or a
// sound card, and else those bound to the driver, or to any of the module, of that
// name. Interfaces are looked for in all network namespaces that netns.All finds,
// for which it needs root.
func List(root, name string) ([]Bound, error) {
	s := sysfs(root)
	l := &listing{sysfs: s, byPath: map[string]*Bound{}}
	if err := l.interfaces(); err != nil {
		return nil, err
	}
	for class, pattern := range map[string]string{"block": "*", "sound": "card*"} {
		if err := l.objects(class, pattern); err != nil {
			return nil, err
		}
	}
	if name != "" {
		if err := l.driver(name); err != nil {
			return nil, err
		}
	}
	var out []Bound
	for _, b := range l.byPath {
		if name == "" || b.Driver == name || b.Module == name || b.Module == strings.ReplaceAll(name, "-", "_") {
			slices.Sort(b.Objects)
			out = append(out, *b)
		}
	}
	slices.SortFunc(out, func(a, b Bound) int {
		return cmp.Or(cmp.Compare(order(a.Class), order(b.Class)), cmp.Compare(a.Driver, b.Driver), cmp.Compare(a.Name, b.Name))
	})
	return out, nil
}

func order(class string) int { return slices.Index([]string{"net", "block", "sound", ""}, class) }

type listing struct {
	sysfs  sysfs
	byPath map[string]*Bound
}

// interfaces goes through the namespaces. A fake root has one.
func (l *listing) interfaces() error {
	if l.sysfs != "" {
		return l.interfacesOf(netns.Namespace{Path: "/proc/1/ns/net"})
	}
	all, err := netns.All()
	if err != nil {
		return err
	}
	for _, n := range all {
		err := netns.Do(n, func() error { return l.interfacesOf(n) })
		if errors.Is(err, netns.ErrGone) || errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return fmt.Errorf("looking for network interfaces: %w", err)
		}
	}
	return nil
}

func (l *listing) interfacesOf(n netns.Namespace) error {
	entries, err := os.ReadDir(l.sysfs.path("class/net"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		dir := l.sysfs.path("class/net", e.Name())
		path, err := filepath.EvalSymlinks(filepath.Join(dir, "device"))
		if err != nil {
			continue // a bridge, a VLAN: no device below it
		}
		b := l.bound(path)
		if b == nil {
			continue
		}
		flags, _ := strconv.ParseUint(read(dir, "flags"), 0, 32)
		index, _ := strconv.Atoi(read(dir, "ifindex"))
		_, wireless := os.Stat(filepath.Join(dir, "phy80211"))
		b.Class = "net"
		b.Interfaces = append(b.Interfaces, Interface{Name: e.Name(), Index: index, NetNS: n.Inode, Namespace: n.Name(),
			Up: flags&1 != 0, Carrier: read(dir, "carrier") == "1", Wireless: wireless == nil})
	}
	return nil
}

// objects looks for the nearest device upwards of each that a driver of a bus
// with hardware is bound to: those of a SCSI disk are its host's.
func (l *listing) objects(class, pattern string) error {
	list, err := filepath.Glob(l.sysfs.path("class", class, pattern))
	if err != nil {
		return err
	}
	for _, o := range list {
		if _, err := os.Stat(filepath.Join(o, "partition")); err == nil {
			continue
		}
		path, err := filepath.EvalSymlinks(o)
		if err != nil {
			continue
		}
		for ; strings.Contains(path, "/devices/"); path = filepath.Dir(path) {
			if b := l.bound(path); b != nil && b.Bus != "scsi" && b.Bus != "nvme-subsystem" {
				b.Class = cmp.Or(b.Class, class)
				b.Objects = append(b.Objects, filepath.Base(o))
				break
			}
		}
	}
	return nil
}

// driver adds what is bound to a driver or a module, of whatever class.
func (l *listing) driver(name string) error {
	folders, err := filepath.Glob(l.sysfs.path("bus/*/drivers", escaped(name)))
	if err != nil {
		return err
	}
	of, err := filepath.Glob(l.sysfs.path("module", escaped(strings.ReplaceAll(name, "-", "_")), "drivers/*"))
	if err != nil {
		return err
	}
	for _, f := range of {
		if bus, driver, ok := strings.Cut(filepath.Base(f), ":"); ok {
			folders = append(folders, l.sysfs.path("bus", bus, "drivers", driver))
		}
	}
	for _, f := range folders {
		entries, err := os.ReadDir(f)
		if err != nil {
			continue // it was unregistered meanwhile
		}
		for _, e := range entries {
			if e.Type()&fs.ModeSymlink == 0 || e.Name() == "module" {
				continue
			}
			if path, err := filepath.EvalSymlinks(filepath.Join(f, e.Name())); err == nil {
				l.bound(path)
			}
		}
	}
	return nil
}

// bound gives the entry of a device; nil if no driver is bound to it. Its path is
// without root, since that of another namespace's sysfs is the same.
func (l *listing) bound(path string) *Bound {
	key := strings.TrimPrefix(path, filepath.Clean("/"+string(l.sysfs)))
	if l.sysfs == "" {
		key = path
	}
	if b := l.byPath[key]; b != nil {
		return b
	}
	driver, err := filepath.EvalSymlinks(filepath.Join(path, "driver"))
	if err != nil {
		return nil
	}
	bus, err := filepath.EvalSymlinks(filepath.Join(path, "subsystem"))
	if err != nil {
		return nil
	}
	b := &Bound{Device: Device{Name: filepath.Base(path), Bus: filepath.Base(bus), Driver: filepath.Base(driver)}, Path: key}
	if module, err := filepath.EvalSymlinks(filepath.Join(driver, "module")); err == nil && isModule(driver) {
		b.Module = filepath.Base(module)
	}
	l.byPath[key] = b
	return b
}

func read(dir, name string) string {
	b, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}
