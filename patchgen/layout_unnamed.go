// SPDX-License-Identifier: Apache-2.0

package patchgen

import "debug/dwarf"

// unnamed finds names for structures without a tag: of a typedef, or of the
// variable that is the only one of its type.
type unnamed struct {
	types map[dwarf.Offset]bool
	// of leads from pointers, arrays, qualified types and typedefs to what they
	// are made of.
	of        map[dwarf.Offset]dwarf.Offset
	typedefs  []naming
	variables []naming
}

type naming struct {
	name   string
	at, of dwarf.Offset
}

func (u *unnamed) add(e *dwarf.Entry) {
	of, ok := e.Val(dwarf.AttrType).(dwarf.Offset)
	if !ok {
		return
	}
	name, _ := e.Val(dwarf.AttrName).(string)
	switch e.Tag {
	case dwarf.TagTypedef:
		u.typedefs = append(u.typedefs, naming{name, e.Offset, of})
	case dwarf.TagVariable:
		if name != "" && isStatic(e) {
			u.variables = append(u.variables, naming{name, e.Offset, of})
		}
	case dwarf.TagPointerType, dwarf.TagArrayType, dwarf.TagConstType, dwarf.TagVolatileType:
		u.of[e.Offset] = of
	}
}

// name calls named for each structure that gets a name. A typedef of a
// structure is the same type, and goes into names as that.
func (u *unnamed) name(named func(at dwarf.Offset, name, kind string) error, names map[dwarf.Offset]string) error {
	taken := map[string]bool{}
	for _, n := range names {
		taken[n] = true
	}
	give := func(n naming, kind string) error {
		at := u.target(n.of)
		if !u.types[at] || names[at] != "" {
			return nil
		}
		if taken[n.name] {
			n.name += " (" + kind + ")" // C has tags apart from other names
		}
		taken[n.name] = true
		return named(at, n.name, kind)
	}
	for _, n := range u.typedefs {
		if err := give(n, "typedef"); err != nil {
			return err
		}
		if u.types[n.of] {
			names[n.at] = names[n.of]
		}
	}
	for _, n := range u.variables {
		if err := give(n, "variable"); err != nil {
			return err
		}
	}
	return nil
}

// target follows pointers and the like to what they are about.
func (u *unnamed) target(t dwarf.Offset) dwarf.Offset {
	for range 32 { // deeper than any declaration, and an end to circles
		next, ok := u.of[t]
		if !ok {
			return t
		}
		t = next
	}
	return t
}
