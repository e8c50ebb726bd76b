// SPDX-License-Identifier: Apache-2.0

package manifest

import (
	"reflect"
	"regexp"
	"unicode"
	"unicode/utf8"

	"github.com/lupatch/lupatch/internal/refuse"
)

// MaxName is the longest name of an update. The kernel has room for 55 bytes
// (MODULE_NAME_LEN, include/linux/moduleparam.h: 64 less the size of a long,
// with the final NUL); seven are kept for the "__NNNNN" of a later generation.
const MaxName = 48

var (
	reName = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_]*$`)
	// A later generation of a resident update is loaded as NAME__2, NAME__3…; a
	// name that looks so itself could not be told from one.
	reGeneration = regexp.MustCompile(`__[0-9]+$`)
	reUnit       = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_-]{0,54}$`)
	reRelease    = regexp.MustCompile(`^[0-9][0-9A-Za-z.+~_-]{0,63}$`)
	// KSYM_NAME_LEN is 512 since 6.1 (include/linux/kallsyms.h).
	reSymbol  = regexp.MustCompile(`^[A-Za-z_.$][A-Za-z0-9_.$]{0,510}$`)
	reSHA256  = regexp.MustCompile(`^[0-9a-f]{64}$`)
	reDigest  = regexp.MustCompile(`^[0-9a-f]{16}$`)
	reBuildID = regexp.MustCompile(`^([0-9a-f]{2}){4,64}$`)
)

// Validate checks that m is complete and sane. An error is a
// refuse.NotAnUpdate that names the field.
func (m *Manifest) Validate() error {
	if m.Schema < 1 || m.Schema > Schema {
		return bad("", "schema %d is not one of 1 to %d", m.Schema, Schema)
	}
	if len(m.Name) > MaxName || !reName.MatchString(m.Name) || reGeneration.MatchString(m.Name) {
		return bad("name", "%.80q cannot be an update's name", m.Name)
	}
	if m.Method != "livepatch" && m.Method != "driver" {
		return bad("method", "%.80q is neither livepatch nor driver", m.Method)
	}
	if !reRelease.MatchString(m.Release) {
		return bad("release", "%.80q cannot be a kernel release", m.Release)
	}
	if !reSHA256.MatchString(m.Source.SHA256) {
		return bad("source.sha256", "%.80q is not a SHA-256 in hex", m.Source.SHA256)
	}
	switch m.Class {
	case ClassCode, ClassData, ClassInstances:
	default:
		return bad("class", "%.80q is not a class", m.Class)
	}
	if len(m.Units) == 0 {
		return bad("units", "there are none")
	}
	replaced, seen := 0, make(map[string]bool)
	for i := range m.Units {
		u := &m.Units[i]
		if (u.Driver != nil) != (m.Method == "driver") {
			return bad("units.driver", "%.80q does not go with the method %s", u.Name, m.Method)
		}
		if err := u.validate(); err != nil {
			return err
		}
		if seen[u.Name] {
			return bad("units", "%s is there twice", u.Name)
		}
		seen[u.Name] = true
		for _, f := range u.Functions {
			if !f.New {
				replaced++
			}
		}
		replaced += len(u.Callbacks)
		for _, d := range u.Data {
			if d.Action != "keep" {
				replaced++
			}
		}
	}
	if err := m.validateOn(); err != nil {
		return err
	}
	if m.Method == "driver" {
		if err := m.validateDriver(); err != nil {
			return err
		}
	} else if replaced == 0 {
		return bad("units", "a livepatch that replaces no function, calls none and writes no variable")
	}
	return plainText(reflect.ValueOf(*m))
}

// maxOn bounds the updates that one stands on: a host has a few.
const maxOn = 1000

func (m *Manifest) validateOn() error {
	if len(m.On) > maxOn {
		return bad("on", "%d updates, the limit is %d", len(m.On), maxOn)
	}
	if m.Cumulative && len(m.On) == 0 {
		return bad("cumulative", "it stands on no update")
	}
	seen := make(map[string]bool)
	for _, b := range m.On {
		if len(b.Update) > MaxName || !reName.MatchString(b.Update) || !reBuildID.MatchString(b.BuildID) {
			return bad("on", "%.80q with build id %.80q cannot be an update", b.Update, b.BuildID)
		}
		if seen[b.BuildID] || seen[b.Update] || b.Update == m.Name {
			return bad("on", "%s is there twice, or is the update itself", b.Update)
		}
		seen[b.BuildID], seen[b.Update] = true, true
	}
	for _, u := range m.Units {
		if u.Needs > 0 && len(m.On) == 0 {
			return bad("on", "it needs version %d of %s and does not say which updates make that", u.Needs, u.Name)
		}
	}
	return nil
}

// maxDevices bounds the patterns of a driver; the most have some hundreds.
const maxDevices = 10000

func (m *Manifest) validateDriver() error {
	u := m.Units[0]
	d := u.Driver
	switch {
	case len(m.Units) != 1:
		return bad("units", "a driver is one module, here are %d units", len(m.Units))
	case u.Name == "vmlinux":
		return bad("units", "vmlinux is no driver")
	case len(u.Functions)+len(u.Data)+len(u.Callbacks)+len(u.Relocations)+len(u.AlreadyRan)+len(m.On)+len(m.Moved)+len(m.Escapes) > 0 || m.Cumulative:
		return bad("units", "%s has parts of a livepatch, and is a driver", u.Name)
	case !reSHA256.MatchString(d.SHA256):
		return bad("units.driver.sha256", "%.80q of %s is not a SHA-256 in hex", d.SHA256, u.Name)
	case !reBuildID.MatchString(d.BuildID):
		return bad("units.driver.build_id", "%.80q of %s is not a build id in hex", d.BuildID, u.Name)
	case len(d.Devices) > maxDevices:
		return bad("units.driver.devices", "%d of %s, the limit is %d", len(d.Devices), u.Name, maxDevices)
	}
	switch d.Class {
	case "", "net", "block", "sound":
	default:
		return bad("units.driver.class", "%.80q of %s is not known", d.Class, u.Name)
	}
	return nil
}

func (u *Unit) validate() error {
	if !reUnit.MatchString(u.Name) {
		return bad("units.name", "%.80q cannot be a unit's name", u.Name)
	}
	if !reBuildID.MatchString(u.BuildID) && (u.Driver == nil || u.BuildID != "") {
		return bad("units.build_id", "%.80q of %s is not a build id in hex", u.BuildID, u.Name)
	}
	if u.Needs < 0 || u.Gives <= u.Needs {
		return bad("units", "%s cannot go from version %d to %d", u.Name, u.Needs, u.Gives)
	}
	if u.Verified < 0 {
		return bad("units.verified", "%d of %s is negative", u.Verified, u.Name)
	}
	type key struct {
		name   string
		sympos int
		isNew  bool
	}
	seen := make(map[key]bool)
	for _, f := range u.Functions {
		if !reSymbol.MatchString(f.Name) {
			return bad("functions.name", "%.80q of %s cannot be a symbol", f.Name, u.Name)
		}
		if f.Sympos < 0 {
			return bad("functions.sympos", "%d of %s is negative", f.Sympos, f.Name)
		}
		if f.New != (f.OldSize == 0) || f.NewSize == 0 {
			return bad("functions", "%s cannot have %d bytes before and %d after", f.Name, f.OldSize, f.NewSize)
		}
		if f.Digest != "" && !reDigest.MatchString(f.Digest) {
			return bad("functions.digest", "%.80q of %s is not a digest", f.Digest, f.Name)
		}
		switch f.Effect {
		case EffectNow, EffectNextProbe, EffectNever:
		default:
			return bad("functions.effect", "%.80q of %s is not known", f.Effect, f.Name)
		}
		k := key{f.Name, f.Sympos, f.New}
		// New static helpers of several files may share a name; what is
		// replaced may not: the kernel tells functions apart by name and sympos.
		if seen[k] && !f.New {
			return bad("functions", "%s,%d of %s is there twice", f.Name, f.Sympos, u.Name)
		}
		seen[k] = true
	}
	for _, d := range u.Data {
		if !reSymbol.MatchString(d.Name) {
			return bad("data.name", "%.80q of %s cannot be a symbol", d.Name, u.Name)
		}
		switch d.Action {
		case "keep", "write@pre", "write@post":
		default:
			return bad("data.action", "%.80q of %s is not known", d.Action, d.Name)
		}
	}
	for _, c := range u.Callbacks {
		if !reSymbol.MatchString(c.Function) {
			return bad("callbacks.function", "%.80q of %s cannot be a symbol", c.Function, u.Name)
		}
		switch c.Kind {
		case "pre_patch", "post_patch", "pre_unpatch", "post_unpatch":
		default:
			return bad("callbacks.kind", "%.80q of %s is not known", c.Kind, c.Function)
		}
	}
	for _, r := range u.Relocations {
		if !reUnit.MatchString(r.Object) || !reSymbol.MatchString(r.Symbol) || r.Sympos < 0 || r.Count < 1 {
			return bad("relocations", "%.80q of %.80q in %s makes no sense", r.Symbol, r.Object, u.Name)
		}
	}
	return nil
}

// plainText refuses control characters in any string of the manifest: they are
// printed on terminals, which must not take orders from a file.
func plainText(v reflect.Value) error {
	switch v.Kind() {
	case reflect.String:
		s := v.String()
		if !utf8.ValidString(s) {
			return bad("", "text that is not UTF-8: %.80q", s)
		}
		for _, r := range s {
			if unicode.IsControl(r) {
				return bad("", "text with control characters: %.80q", s)
			}
		}
	case reflect.Slice:
		for i := 0; i < v.Len(); i++ {
			if err := plainText(v.Index(i)); err != nil {
				return err
			}
		}
	case reflect.Pointer:
		if !v.IsNil() && v.Type() == reflect.TypeFor[*Driver]() {
			return plainText(v.Elem())
		}
	case reflect.Struct:
		for i := 0; i < v.NumField(); i++ {
			if !v.Type().Field(i).IsExported() {
				continue // time.Time keeps its zone's name inside
			}
			if err := plainText(v.Field(i)); err != nil {
				return err
			}
		}
	}
	return nil
}

func bad(field, format string, args ...any) error {
	if field == "" {
		field = "manifest"
	}
	return refuse.New(refuse.NotAnUpdate, field, format, args...)
}
