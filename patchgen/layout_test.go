// SPDX-License-Identifier: Apache-2.0

package patchgen

import (
	"debug/dwarf"
	"testing"

	"github.com/go-delve/delve/pkg/dwarf/dwarfbuilder"
	"github.com/go-delve/delve/pkg/dwarf/op"
)

// member is a field of a structure made for a test.
type member struct {
	name string
	at   uint
	wide bool // 8 bytes instead of 4
}

// structType makes a structure as a compiler would describe it.
func structType(t *testing.T, size uint16, members ...member) *dwarf.StructType {
	t.Helper()
	b := dwarfbuilder.New()
	b.AddCompileUnit("unit.c", 0)
	narrow := b.AddBaseType("int", dwarfbuilder.DW_ATE_signed, 4)
	wide := b.AddBaseType("long", dwarfbuilder.DW_ATE_signed, 8)
	off := b.AddStructType("dev", size)
	for _, m := range members {
		typ := narrow
		if m.wide {
			typ = wide
		}
		b.AddMember(m.name, typ, dwarfbuilder.LocationBlock(op.DW_OP_plus_uconst, m.at))
	}
	b.TagClose()
	b.TagClose()
	abbrev, aranges, frame, info, line, pubnames, ranges, str, _, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	d, err := dwarf.New(abbrev, aranges, frame, info, line, pubnames, ranges, str)
	if err != nil {
		t.Fatal(err)
	}
	typ, err := d.Type(off)
	if err != nil {
		t.Fatal(err)
	}
	return typ.(*dwarf.StructType)
}

func TestDifference(t *testing.T) {
	old := []member{{"a", 0, false}, {"b", 8, true}}
	for _, c := range []struct {
		name string
		size uint16
		new  []member
		want string
	}{
		{"the same", 16, old, ""},
		{"another name", 16, []member{{"alpha", 0, false}, {"b", 8, true}}, ""},
		{"larger", 24, append(old[:2:2], member{"c", 16, true}), "struct dev is 16 bytes in the running kernel and would be 24"},
		{"in a hole", 16, append(old[:2:2], member{"c", 4, false}), "field c of struct dev is new, at offset 4"},
		{"moved", 16, []member{{"b", 0, true}, {"a", 8, false}}, "field b of struct dev moves from offset 8 to 0"},
		{"wider", 16, []member{{"a", 0, true}, {"b", 8, true}}, "field a of struct dev changes its size from 4 to 8 bytes"},
	} {
		got := ""
		if all := differences(structType(t, 16, old...), structType(t, c.size, c.new...)); len(all) > 0 {
			got = all[0]
		}
		if got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}
