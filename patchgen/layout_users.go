// SPDX-License-Identifier: Apache-2.0

package patchgen

import (
	"debug/dwarf"
	"maps"
	"slices"
)

// LayoutUsers names the functions of an object that have parameters or
// variables of a structure, or pointers to it, and the object's own variables
// of that kind: who would have to agree about its layout. obj is an object
// file with DWARF.
func LayoutUsers(obj []byte, structure string) ([]string, error) {
	d, err := readDWARF(obj)
	if err != nil {
		return nil, err
	}
	g := typeGraph{of: map[dwarf.Offset]dwarf.Offset{}, wanted: map[dwarf.Offset]bool{}}
	type use struct {
		who string
		typ dwarf.Offset
	}
	var uses []use
	var stack []*dwarf.Entry
	r := readEntries(d, len(obj))
	for {
		e, err := r.Next()
		if err != nil {
			return nil, err
		}
		if e == nil {
			break
		}
		if e.Tag == 0 {
			stack = stack[:max(len(stack)-1, 0)]
			continue
		}
		g.add(e, structure)
		if typ, ok := e.Val(dwarf.AttrType).(dwarf.Offset); ok && (e.Tag == dwarf.TagFormalParameter || e.Tag == dwarf.TagVariable) {
			if who := holder(e, stack); who != "" {
				uses = append(uses, use{who, typ})
			}
		}
		if e.Children {
			stack = append(stack, e)
		}
	}
	found := map[string]bool{}
	for _, u := range uses {
		if g.reaches(u.typ) {
			found[u.who] = true
		}
	}
	return slices.Sorted(maps.Keys(found)), nil
}

// holder is the function around a variable, or the variable itself.
func holder(e *dwarf.Entry, stack []*dwarf.Entry) string {
	for _, s := range stack {
		if s.Tag == dwarf.TagSubprogram {
			name, _ := s.Val(dwarf.AttrName).(string)
			return name
		}
	}
	name, _ := e.Val(dwarf.AttrName).(string)
	if e.Tag != dwarf.TagVariable || name == "" {
		return ""
	}
	if declared, _ := e.Val(dwarf.AttrDeclaration).(bool); declared {
		return ""
	}
	return "variable " + name
}

// typeGraph knows what types are made of by pointers, arrays and the like.
type typeGraph struct {
	of     map[dwarf.Offset]dwarf.Offset
	wanted map[dwarf.Offset]bool
}

func (g *typeGraph) add(e *dwarf.Entry, structure string) {
	switch e.Tag {
	case dwarf.TagStructType, dwarf.TagUnionType:
		if name, _ := e.Val(dwarf.AttrName).(string); name == structure {
			g.wanted[e.Offset] = true
		}
	case dwarf.TagTypedef:
		if name, _ := e.Val(dwarf.AttrName).(string); name == structure {
			g.wanted[e.Offset] = true
		}
		if typ, ok := e.Val(dwarf.AttrType).(dwarf.Offset); ok {
			g.of[e.Offset] = typ
		}
	case dwarf.TagPointerType, dwarf.TagConstType, dwarf.TagVolatileType, dwarf.TagArrayType, dwarf.TagRestrictType:
		if typ, ok := e.Val(dwarf.AttrType).(dwarf.Offset); ok {
			g.of[e.Offset] = typ
		}
	}
}

// reaches follows a type down to the structure.
func (g *typeGraph) reaches(t dwarf.Offset) bool {
	for range 32 { // deeper than any declaration, and an end to circles
		if g.wanted[t] {
			return true
		}
		next, ok := g.of[t]
		if !ok {
			return false
		}
		t = next
	}
	return false
}
