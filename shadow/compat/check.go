// SPDX-License-Identifier: Apache-2.0

package compat

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/lupatch/lupatch/internal/kmodule"
	"github.com/lupatch/lupatch/internal/refuse"
)

// Finding is something about a replacement that is to be known before anything
// stops.
type Finding struct {
	// ID is that of the refusal that it is a reason for; empty if it is only to be
	// known.
	ID refuse.ID `json:"id,omitempty"`
	// Where is the module, device, symbol or parameter.
	Where string `json:"where"`
	// Detail is a sentence.
	Detail string `json:"detail"`
}

// Refusal makes one refusal out of findings: the first that is a reason, and the
// others of them as help; nil if there is none.
func Refusal(findings []Finding) error {
	var e *refuse.Error
	for _, f := range findings {
		switch {
		case f.ID == "":
		case e == nil:
			e = refuse.New(f.ID, f.Where, "%s", f.Detail)
		default:
			e.Help += fmt.Sprintf("also: %s: %s: %s\n", f.ID, f.Where, f.Detail)
		}
	}
	if e == nil {
		return nil
	}
	return e
}

type findings []Finding

func (l *findings) refuse(id refuse.ID, where, format string, args ...any) {
	*l = append(*l, Finding{id, where, fmt.Sprintf(format, args...)})
}

func (l *findings) note(where, format string, args ...any) { l.refuse("", where, format, args...) }

// Check holds a new driver against the one that runs and against the host, from
// their files alone. Reasons against it have the identifiers DriverIncompatible,
// DriverUses and DriverPagePool; what else there is to know has none. An error means that the check
// could not be made.
func Check(old, new *Image, t *Target) ([]Finding, error) {
	var l findings
	name := new.Info.Name
	if name != old.Info.Name {
		l.refuse(refuse.DriverIncompatible, name, "it is another module than %s, which runs", old.Info.Name)
		return l, nil
	}
	if old.Facts.BuildID == new.Facts.BuildID {
		l.note(name, "it is the driver that runs already")
	}
	checkVermagic(&l, old, new)
	if err := checkDepends(&l, new, t); err != nil {
		return nil, err
	}
	checkSymbols(&l, new, t)
	checkDevices(&l, old, new, t)
	checkParams(&l, new, t)
	for _, i := range []struct {
		image *Image
		which string
	}{{old, "the one that runs"}, {new, "the new one"}} {
		for _, why := range i.image.Refused() {
			l.refuse(refuse.DriverUses, name, "%s: %s", i.which, why)
		}
	}
	checkFirmware(&l, old, new, t)
	for _, d := range t.Devices {
		checkPool(&l, d, old, new)
	}
	if a, b := old.Facts.Private, new.Facts.Private; a > 0 && b > 0 && a != b {
		l.note(name, "it asks for %d bytes behind each network device, the one that runs for %d", b, a)
	}
	return l, nil
}

// checkVermagic compares what the kernel compares (kernel/module/version.c,
// same_magic): with checksums of symbols all but the release.
func checkVermagic(l *findings, old, new *Image) {
	if old.Info.Vermagic == new.Info.Vermagic {
		return
	}
	l.refuse(refuse.DriverIncompatible, new.Info.Name, "it is for the kernel %q, this one is %q", strings.TrimSpace(new.Info.Vermagic), strings.TrimSpace(old.Info.Vermagic))
}

// checkDepends sees to the modules that the new one needs.
func checkDepends(l *findings, new *Image, t *Target) error {
	for _, d := range new.Info.Depends {
		switch {
		case t.loaded[d], t.tree.Builtin(d):
		case t.tree.Has(d):
			m, err := t.tree.Load(d)
			if err != nil {
				return err
			}
			i, err := NewImage(m.Path, m.Image)
			if err != nil {
				return err
			}
			t.Exports.Add(i, false)
			l.note(new.Info.Name, "it needs the module %s, which is loaded first", d)
		default:
			l.refuse(refuse.DriverIncompatible, new.Info.Name, "it needs the module %s, which is neither loaded nor installed", d)
		}
	}
	return nil
}

// shown is how many symbols or patterns a sentence names.
const shown = 6

// checkSymbols sees whether all that the new driver imports is there, with the same
// checksum.
func checkSymbols(l *findings, new *Image, t *Target) {
	var missing, differ, unknown []string
	for _, i := range new.Facts.Imports {
		crc, known := t.Exports.CRC[i.Name]
		switch {
		case known && (!i.HasCRC || crc == i.CRC || crc == 0):
		case known:
			differ = append(differ, fmt.Sprintf("%s (%#08x, here %#08x)", i.Name, i.CRC, crc))
		case t.Exports.Names[i.Name] || !t.Exports.Whole:
			unknown = append(unknown, i.Name)
		case !i.Weak:
			missing = append(missing, i.Name)
		}
	}
	for _, s := range []struct {
		names []string
		what  string
		id    refuse.ID
	}{
		{missing, "it needs what this kernel does not export: %s", refuse.DriverIncompatible},
		{differ, "it was compiled against other interfaces than this kernel's: %s", refuse.DriverIncompatible},
		{unknown, "this host cannot say whether these symbols are as it needs them, the kernel will: %s", ""},
	} {
		if len(s.names) > 0 {
			l.refuse(s.id, new.Info.Name, s.what+" (according to %s)", some(s.names), t.Exports.From)
		}
	}
}

func some(names []string) string {
	if n := len(names); n > shown {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:shown], ", "), n-shown)
	}
	return strings.Join(names, ", ")
}

// checkDevices sees whether all devices that are there are still claimed.
func checkDevices(l *findings, old, new *Image, t *Target) {
	lost := map[string][]string{}
	for _, d := range t.Devices {
		switch {
		case d.Modalias == "":
			l.note(d.Name, "its bus does not say which drivers claim it")
		case claims(new.Info.Aliases, d.Modalias):
		case claims(old.Info.Aliases, d.Modalias):
			lost[d.Modalias] = append(lost[d.Modalias], d.Name)
		default:
			// Bound by hand (new_id, driver_override), which does not carry over.
			l.refuse(refuse.DriverIncompatible, d.Name, "neither driver claims it (%s): it was bound by hand, which the new one would not know", d.Modalias)
		}
	}
	for _, alias := range slices.Sorted(maps.Keys(lost)) {
		l.refuse(refuse.DriverIncompatible, strings.Join(lost[alias], ", "), "the new driver does not claim it any more (%s)", alias)
	}
}

// checkFirmware looks for the files that the new driver may ask for. Most drivers
// name those of many devices, so that one missing proves nothing.
func checkFirmware(l *findings, old, new *Image, t *Target) {
	var gone []string
	for _, name := range new.Info.Firmware {
		if !strings.ContainsAny(name, "*?[") && !slices.Contains(old.Info.Firmware, name) && t.FirmwareFile(name) == "" {
			gone = append(gone, name)
		}
	}
	if len(gone) > 0 {
		l.note(new.Info.Name, "it may ask for firmware that the one that runs did not need and that is not installed: %s", some(gone))
	}
}

// FromDisk names what drivers would read from a file system while the device stands
// still: firmware that is installed and that they may ask for. See CheckRoot.
func (t *Target) FromDisk(images ...*Image) (out []string) {
	for _, i := range images {
		for _, f := range i.Info.Firmware {
			if t.FirmwareFile(f) != "" && !slices.Contains(out, f) {
				out = append(out, f)
			}
		}
	}
	return out
}

// Needs lists the modules that a driver needs and that are not loaded, each behind
// what it needs itself: to be loaded before anything stops.
func (t *Target) Needs(i *Image) ([]*kmodule.Module, error) {
	var names []string
	for _, d := range append(slices.Clone(i.Info.Depends), i.Info.Pre...) {
		if !t.loaded[d] && t.tree.Has(d) {
			names = append(names, d)
		}
	}
	all, err := t.tree.Closure(names...)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(all, func(m *kmodule.Module) bool { return t.loaded[m.Name] }), nil
}
