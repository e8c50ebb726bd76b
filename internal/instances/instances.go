// SPDX-License-Identifier: Apache-2.0

// Package instances says for which devices, modules and values of a running
// kernel the changed code of an update has already run: an update replaces
// code, and what a probe function, an init function or the setter of a
// parameter has done stays done.
//
// It reads sysfs only, which needs no privilege but for parameters that are
// root's alone (Documentation/admin-guide/sysfs-rules.rst, and
// Documentation/ABI/testing/sysfs-module; links to drivers in /sys/module since
// 2.6.14).
package instances

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/lupatch/lupatch/internal/manifest"
)

// Point is one function, or variable, and what its old version has done.
type Point struct {
	Unit string `json:"unit"`
	// Function has run already. For a variable whose initial value changes it is
	// empty, and Variable is set.
	Function string `json:"function,omitempty"`
	Variable string `json:"variable,omitempty"`
	// Devices were probed by it.
	Devices []Device `json:"devices,omitempty"`
	// Params have values that it set.
	Params []Param `json:"params,omitempty"`
	// Init is set if it ran when the unit was loaded, or at boot.
	Init bool `json:"init,omitempty"`
}

// Device is one bound to a driver of the unit.
type Device struct {
	Name   string `json:"name"` // as in /sys/bus/BUS/devices
	Bus    string `json:"bus"`
	Driver string `json:"driver"`
}

// Param is a parameter of the unit; Value is empty if it cannot be read.
type Param struct {
	Name  string `json:"name"`
	Value string `json:"value,omitempty"`
}

// shown is how many devices a line names.
const shown = 8

// String says it in a line, with what can be done.
func (p Point) String() string {
	switch {
	case p.Variable != "":
		return fmt.Sprintf("the initial value of %s was set before: %s", p.Variable, p.params())
	case len(p.Devices) > 0:
		return fmt.Sprintf("%s has already run for: %s; unbind a device and bind it again to have it probed by the new code", p.Function, p.devices())
	case len(p.Params) > 0 && p.Init:
		return fmt.Sprintf("%s has already run for: %s; the new code will when %s is loaded again", p.Function, p.params(), p.Unit)
	case len(p.Params) > 0:
		return fmt.Sprintf("%s has already run for: %s; write the parameter again to have the new code run", p.Function, p.params())
	case p.Unit == vmlinux:
		return fmt.Sprintf("%s has already run for: this boot", p.Function)
	}
	return fmt.Sprintf("%s has already run for: module %s, which is loaded", p.Function, p.Unit)
}

func (p Point) devices() string {
	var names []string
	one := true
	for _, d := range p.Devices {
		one = one && d.Driver == p.Devices[0].Driver
		names = append(names, d.Name)
	}
	if n := len(names); n > shown {
		names = append(names[:shown], fmt.Sprintf("and %d more", n-shown))
	}
	s := strings.Join(names, ", ")
	if one {
		s += fmt.Sprintf(" (driver %s)", p.Devices[0].Driver)
	}
	return s
}

func (p Point) params() string {
	var out []string
	for _, x := range p.Params {
		s := "parameter " + x.Name
		if x.Value != "" {
			s += "=" + x.Value
		}
		out = append(out, s)
	}
	return strings.Join(out, ", ")
}

const vmlinux = "vmlinux"

// Of lists the points of an update on the kernel whose sysfs lies below root
// (empty for the running one). Units that are not loaded have none. A probe
// function without devices is left out: it has run for nothing that is there.
func Of(root string, m *manifest.Manifest) ([]Point, error) {
	s := sysfs(root)
	var out []Point
	for _, u := range m.Units {
		if there, err := s.loaded(u.Name); err != nil {
			return nil, err
		} else if !there {
			continue
		}
		for _, name := range u.AlreadyRan {
			out = append(out, Point{Unit: u.Name, Function: name, Init: true})
		}
		for _, f := range u.Functions {
			p := Point{Unit: u.Name, Function: f.Name, Init: f.Effect == manifest.EffectNever, Params: s.params(u.Name, f.Params)}
			if f.Effect == manifest.EffectNextProbe {
				var err error
				if p.Devices, err = s.devices(u.Name, f.Drivers); err != nil {
					return nil, fmt.Errorf("listing devices of %s: %w", u.Name, err)
				}
			}
			if p.Init || len(p.Devices)+len(p.Params) > 0 {
				out = append(out, p)
			}
		}
		for _, d := range u.Data {
			if d.Param != "" {
				out = append(out, Point{Unit: u.Name, Variable: d.Name, Params: s.params(u.Name, []string{d.Param})})
			}
		}
	}
	return out, nil
}

// sysfs is the folder that /sys lies in.
type sysfs string

func (s sysfs) path(elem ...string) string {
	return filepath.Join(append([]string{string(s), "/sys"}, elem...)...)
}

// loaded says whether a unit is part of the running kernel. A module that is
// being loaded or unloaded counts: its init function has begun.
func (s sysfs) loaded(unit string) (bool, error) {
	if unit == vmlinux {
		return true, nil
	}
	_, err := os.Stat(s.path("module", unit))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// params reads parameters of a unit. Those of the kernel itself are called
// PART.NAME and lie in the folder of the part.
func (s sysfs) params(unit string, names []string) (out []Param) {
	for _, n := range names {
		folder, name := unit, n
		if part, rest, ok := strings.Cut(n, "."); ok {
			folder, name = part, rest
		}
		// Not all are shown, and some to nobody but root.
		b, _ := os.ReadFile(s.path("module", folder, "parameters", name))
		out = append(out, Param{Name: n, Value: printable(strings.TrimSpace(string(b)))})
	}
	return out
}

// printable keeps a value from writing to a terminal what it likes.
func printable(s string) string {
	const most = 60
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 || r == '\ufffd' {
			return '?'
		}
		return r
	}, s)
	if r := []rune(s); len(r) > most {
		s = string(r[:most]) + "…"
	}
	return s
}

// devices lists what is bound to the drivers of a unit that have one of the
// names, or to all of them if there are none.
func (s sysfs) devices(unit string, drivers []string) ([]Device, error) {
	var folders []string
	if unit == vmlinux {
		for _, d := range drivers {
			all, err := filepath.Glob(s.path("bus", "*", "drivers", escaped(d)))
			if err != nil {
				return nil, err
			}
			// A module may have a driver of the same name, on another bus.
			folders = append(folders, slices.DeleteFunc(all, func(f string) bool { return isModule(f) })...)
		}
	} else {
		links, err := os.ReadDir(s.path("module", unit, "drivers"))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		for _, l := range links {
			bus, name, ok := strings.Cut(l.Name(), ":")
			if ok && (len(drivers) == 0 || slices.Contains(drivers, name)) {
				folders = append(folders, s.path("bus", bus, "drivers", name))
			}
		}
	}
	var out []Device
	for _, f := range folders {
		entries, err := os.ReadDir(f)
		if errors.Is(err, fs.ErrNotExist) {
			continue // it was unregistered meanwhile
		}
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			// Devices are links, and so is the module; all else is a file.
			if e.Type()&fs.ModeSymlink != 0 && e.Name() != "module" {
				out = append(out, Device{Name: e.Name(), Bus: filepath.Base(filepath.Dir(filepath.Dir(f))), Driver: filepath.Base(f)})
			}
		}
	}
	return out, nil
}

// isModule reports the folder of a driver that a module has. Drivers of the
// kernel itself may have the link, too, but not to a module with an init state.
func isModule(folder string) bool {
	_, err := os.Stat(filepath.Join(folder, "module", "initstate"))
	return err == nil
}

// escaped is a name in which no character stands for others.
func escaped(name string) string {
	return strings.NewReplacer(`\`, `\\`, "*", `\*`, "?", `\?`, "[", `\[`).Replace(name)
}
