// SPDX-License-Identifier: Apache-2.0

package patchgen

import (
	"debug/dwarf"
	"fmt"
	"slices"
	"strings"
)

// differences says in words how two layouts differ; none if they agree. A
// member that only got another name is no difference. The first one stands for
// all where there is room for a sentence only.
func differences(a, b *dwarf.StructType) (out []string) {
	say := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	whole := fullName(a)
	if a.ByteSize != b.ByteSize {
		say("%s is %d bytes in the running kernel and would be %d", whole, a.ByteSize, b.ByteSize)
	}
	old, new := map[string]field{}, map[string]field{}
	before, after := fields(a, 0), fields(b, 0)
	for _, f := range before {
		old[f.name] = f
	}
	for _, f := range after {
		new[f.name] = f
		g, ok := old[f.name]
		switch {
		case !ok && (a.ByteSize != b.ByteSize || !slices.ContainsFunc(before, f.sameSpot)):
			say("field %s of %s is new, at offset %d", f.name, whole, f.at())
		case !ok:
		case g.offset != f.offset || g.bit != f.bit:
			say("field %s of %s moves from offset %d to %d", f.name, whole, g.at(), f.at())
		case g.size != f.size || g.bits != f.bits:
			say("field %s of %s changes its size from %d to %d bytes", f.name, whole, g.size, f.size)
		}
	}
	for _, f := range before {
		if _, ok := new[f.name]; !ok && len(out) > 0 && !slices.ContainsFunc(after, f.sameSpot) {
			say("field %s of %s is gone", f.name, whole)
		}
	}
	return out
}

// renamed finds the structure that a structure of the old version has become: one
// that is new, and has more than half of its members. Types that a unit merely
// stops or begins to use have little in common.
func renamed(old, new *types, name string) *dwarf.StructType {
	before := fields(old.structs[name], 0)
	for _, n := range slices.Sorted(keys(new.structs)) {
		if old.structs[n] != nil {
			continue
		}
		common := 0
		for _, f := range fields(new.structs[n], 0) {
			if f.name != "" && slices.ContainsFunc(before, func(g field) bool { return g.name == f.name }) {
				common++
			}
		}
		if 2*common > len(before) {
			return new.structs[n]
		}
	}
	return nil
}

// fullName is what C calls a structure.
func fullName(s *dwarf.StructType) string {
	if s.Kind == "typedef" {
		return s.StructName
	}
	return s.Kind + " " + s.StructName
}

// added lists the members that only the new layout has, and that can be declared
// elsewhere.
func added(a, b *dwarf.StructType) (out []field) {
	if a.Kind == "variable" {
		return nil // it has no other instances
	}
	before := fields(a, 0)
	for _, f := range fields(b, 0) {
		if strings.ContainsAny(f.name, ".[") {
			continue
		}
		if f.name != "" && !slices.ContainsFunc(before, func(g field) bool { return g.name == f.name || f.sameSpot(g) && a.ByteSize == b.ByteSize }) {
			out = append(out, f)
		}
	}
	return out
}

// field is one named member, those of unnamed members among them. Offset and
// size are bytes, bit and bits describe a bit field.
type field struct {
	name        string
	offset, bit int64
	size, bits  int64
	typ         dwarf.Type
}

// at is the byte in which the field begins.
func (f field) at() int64 { return f.offset + f.bit/8 }

func (f field) sameSpot(g field) bool {
	return f.offset == g.offset && f.bit == g.bit && f.size == g.size && f.bits == g.bits
}

// fields lists the members. Those of types without a name are part of the
// structure, as C writes them: a.b, a[].b.
func fields(s *dwarf.StructType, base int64) (out []field) {
	for _, f := range s.Field {
		inner, name := f.Type, f.Name
		for {
			array, ok := inner.(*dwarf.ArrayType)
			if !ok {
				break
			}
			inner, name = array.Type, name+"[]"
		}
		if f.Name != "" {
			out = append(out, field{name: f.Name, offset: base + f.ByteOffset, bit: f.DataBitOffset, size: f.Type.Size(), bits: f.BitSize, typ: f.Type})
			name += "."
		}
		if t, ok := inner.(*dwarf.StructType); ok && t.StructName == "" {
			for _, g := range fields(t, base+f.ByteOffset) {
				g.name = name + g.name
				out = append(out, g)
			}
		}
	}
	return out
}
