// SPDX-License-Identifier: Apache-2.0

// Package state reads back, before a driver is replaced, what the kernel keeps
// of a network interface outside of its net_device or only in the driver, puts it
// back afterwards, and tells what was lost. What ethtool_ops and net_device_ops
// can set the kernel side of the shadow replays itself, before the device is
// opened; here it is only read, to be compared (Settings).
package state

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/lupatch/lupatch/internal/instances"
	"github.com/lupatch/lupatch/internal/netns"
)

// Device is a network interface with a device below it.
type Device struct {
	// Interface is its name, NetNS the inode of the network namespace it is in.
	Interface string `json:"interface"`
	NetNS     uint32 `json:"netns"`
	// Parent is the device it belongs to as in /sys/bus/BUS/devices, Port its port
	// (dev_port). Together they tell the interface when its name has changed.
	Bus    string `json:"bus"`
	Parent string `json:"parent"`
	Port   int    `json:"port"`
}

// ErrNoDevice says that there is no such interface, or no device below it.
var ErrNoDevice = errors.New("no network interface of a device")

// Find looks up an interface by name in this process's network namespace.
func Find(name string) (Device, error) {
	n, err := netns.Own()
	if err != nil {
		return Device{}, err
	}
	return FindIn(n, name)
}

// FindIn looks it up in a namespace.
func FindIn(n netns.Namespace, name string) (d Device, err error) {
	err = netns.Do(n, func() error {
		d, err = deviceOf(name)
		return err
	})
	d.NetNS = n.Inode
	return d, err
}

func deviceOf(name string) (Device, error) {
	if name == "" || strings.ContainsAny(name, "/\x00") || name == "." || name == ".." {
		return Device{}, fmt.Errorf("looking for %q: %w", name, ErrNoDevice)
	}
	path, err := filepath.EvalSymlinks(filepath.Join(class, name, "device"))
	if err != nil {
		return Device{}, fmt.Errorf("looking for %s: %w: %w", name, ErrNoDevice, err)
	}
	bus, err := filepath.EvalSymlinks(filepath.Join(path, "subsystem"))
	if err != nil {
		return Device{}, fmt.Errorf("looking for %s: %w: %w", name, ErrNoDevice, err)
	}
	return Device{Interface: name, Bus: filepath.Base(bus), Parent: filepath.Base(path), Port: port(name)}, nil
}

// Of lists the network interfaces of all devices of a driver or module, in all
// namespaces. It needs root.
func Of(driver string) ([]Device, error) {
	bound, err := instances.List("", driver)
	if err != nil {
		return nil, err
	}
	var out []Device
	for _, b := range bound {
		for _, i := range b.Interfaces {
			n, err := netns.Find(i.NetNS)
			if err != nil {
				return nil, err
			}
			d, err := FindIn(n, i.Name)
			if err != nil {
				return nil, err
			}
			out = append(out, d)
		}
	}
	return out, nil
}

const class = "/sys/class/net"

// port is 0 where a driver has only one.
func port(name string) int {
	n, _ := strconv.Atoi(attribute(filepath.Join(class, name, "dev_port")))
	return n
}

// attribute is the value of a file of sysfs or procfs; empty if it cannot be read,
// as many cannot in some states of a device.
func attribute(path string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

// inside calls f with the present name of the interface, in its namespace.
func (d Device) inside(f func(name string) error) error {
	n, err := netns.Find(d.NetNS)
	if err != nil {
		return err
	}
	return netns.Do(n, func() error {
		name, err := d.name()
		if err != nil {
			return err
		}
		return f(name)
	})
}

// name is the interface's of now: it may have been named anew.
func (d Device) name() (string, error) {
	if now, err := deviceOf(d.Interface); err == nil && d.same(now) {
		return d.Interface, nil
	}
	entries, err := os.ReadDir(filepath.Join("/sys/bus", d.Bus, "devices", d.Parent, "net"))
	if err == nil {
		for _, e := range entries {
			if port(e.Name()) == d.Port {
				return e.Name(), nil
			}
		}
	}
	return "", fmt.Errorf("looking for the interface of %s: %w", d.Parent, ErrNoDevice)
}

func (d Device) same(o Device) bool {
	return d.Bus == o.Bus && d.Parent == o.Parent && d.Port == o.Port
}
