// SPDX-License-Identifier: Apache-2.0

package patchgen

import (
	"debug/dwarf"
	"fmt"
	"slices"
	"strings"

	"github.com/lupatch/lupatch/internal/refuse"
)

// CheckLayouts refuses a change of a structure that memory outside of the
// changed functions may hold: instances that exist keep the old layout. So do
// values of an enumeration: a constant may not change its number. Both
// arguments are objects with DWARF, byte for byte. A structure that is only
// ever a variable on the stack may change.
func CheckLayouts(old, new []byte) error {
	a, err := layouts(old)
	if err != nil {
		return fmt.Errorf("reading types of the old version: %w", err)
	}
	b, err := layouts(new)
	if err != nil {
		return fmt.Errorf("reading types of the new version: %w", err)
	}
	if e := renumbered(a.enums, b.enums); e != nil {
		return e
	}
	for _, name := range slices.Sorted(keys(a.structs)) {
		y, ok := b.structs[name]
		if !ok {
			y = renamed(a, b, name)
		}
		if y == nil {
			continue
		}
		if what := differences(a.structs[name], y); len(what) > 0 {
			if users := append(a.users[name], b.users[y.StructName]...); len(users) > 0 {
				slices.Sort(users)
				users = slices.Compact(users)
				e := refuse.New(refuse.StructLayout, name, "%s; instances exist outside the changed functions: %s", what[0], strings.Join(users[:min(len(users), 4)], ", "))
				e.Help = layoutHelp(what, a.structs[name], y)
				return e
			}
		}
	}
	return nil
}

func keys[V any](m map[string]V) func(func(string) bool) {
	return func(yield func(string) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}

// types are the structures and unions of a unit that have a name of some kind.
type types struct {
	structs map[string]*dwarf.StructType
	// users says who holds instances or pointers to them.
	users map[string][]string
	enums []enum
}

func layouts(obj []byte) (*types, error) {
	d, err := readDWARF(obj)
	if err != nil {
		return nil, err
	}
	t := &types{structs: map[string]*dwarf.StructType{}, users: map[string][]string{}}
	names, err := t.read(d, len(obj))
	if err != nil {
		return nil, err
	}
	return t, t.findUsers(d, len(obj), names)
}

// read collects the layouts; names maps offsets of types to the structure that
// each is.
func (t *types) read(d *dwarf.Data, size int) (names map[dwarf.Offset]string, err error) {
	names = map[dwarf.Offset]string{}
	u := unnamed{types: map[dwarf.Offset]bool{}, of: map[dwarf.Offset]dwarf.Offset{}}
	r := readEntries(d, size)
	for {
		e, err := r.Next()
		if err != nil {
			return nil, err
		}
		if e == nil {
			break
		}
		u.add(e)
		name, _ := e.Val(dwarf.AttrName).(string)
		switch {
		case e.Tag == dwarf.TagEnumerationType:
			t.enums = append(t.enums, enum{name: name})
		case e.Tag == dwarf.TagEnumerator:
			if v, ok := e.Val(dwarf.AttrConstValue).(int64); ok && len(t.enums) > 0 {
				t.enums[len(t.enums)-1].add(name, v)
			}
		case e.Tag != dwarf.TagStructType && e.Tag != dwarf.TagUnionType:
		case name == "":
			u.types[e.Offset] = true
		default:
			names[e.Offset] = name
			if err := t.layout(d, e, name, ""); err != nil {
				return nil, err
			}
		}
	}
	return names, u.name(func(at dwarf.Offset, name, kind string) error {
		names[at] = name
		r := d.Reader()
		r.Seek(at)
		entry, err := r.Next()
		if err != nil {
			return err
		}
		return t.layout(d, entry, name, kind)
	}, names)
}

// layout notes a structure, unless it is only declared or known. One without a
// tag is called by its kind of name: "typedef" or "variable".
func (t *types) layout(d *dwarf.Data, e *dwarf.Entry, name, kind string) error {
	if decl, _ := e.Val(dwarf.AttrDeclaration).(bool); decl || t.structs[name] != nil {
		return nil
	}
	typ, err := d.Type(e.Offset)
	if err != nil {
		return fmt.Errorf("type %s: %w", name, err)
	}
	s, ok := typ.(*dwarf.StructType)
	if !ok {
		return nil
	}
	if kind != "" {
		named := *s
		named.StructName, named.Kind = name, kind
		s = &named
	}
	t.structs[name] = s
	return nil
}

// findUsers notes pointers to structures, members and global variables. What
// is left are variables in functions.
func (t *types) findUsers(d *dwarf.Data, size int, names map[dwarf.Offset]string) error {
	var stack []*dwarf.Entry
	r := readEntries(d, size)
	for {
		e, err := r.Next()
		if err != nil || e == nil {
			return err
		}
		if e.Tag == 0 {
			if len(stack) > 0 {
				stack = stack[:len(stack)-1]
			}
			continue
		}
		if off, ok := e.Val(dwarf.AttrType).(dwarf.Offset); ok {
			if s := names[off]; s != "" && names[e.Offset] != s {
				if who := t.user(e, stack); who != "" {
					t.users[s] = append(t.users[s], who)
				}
			}
		}
		if e.Children {
			stack = append(stack, e)
		}
	}
}

func (t *types) user(e *dwarf.Entry, stack []*dwarf.Entry) string {
	name, _ := e.Val(dwarf.AttrName).(string)
	inside := ""
	for i := len(stack) - 1; i >= 0 && inside == ""; i-- {
		inside, _ = stack[i].Val(dwarf.AttrName).(string)
	}
	switch e.Tag {
	case dwarf.TagPointerType:
		return "pointers to it"
	case dwarf.TagMember:
		return "member " + name + " of " + inside
	case dwarf.TagArrayType, dwarf.TagTypedef, dwarf.TagConstType, dwarf.TagVolatileType:
		return "types made of it"
	case dwarf.TagFormalParameter:
		return "parameter " + name + " of " + inside
	case dwarf.TagVariable:
		for _, s := range stack {
			if s.Tag == dwarf.TagSubprogram && !isStatic(e) {
				return ""
			}
		}
		return "variable " + name
	}
	return ""
}

// opAddr begins the location of what has an address of its own (DWARF 5, 2.5.1.1).
const opAddr = 0x03

// isStatic tells variables that live as long as the unit from those on a stack.
func isStatic(e *dwarf.Entry) bool {
	at, _ := e.Val(dwarf.AttrLocation).([]byte)
	return len(at) > 0 && at[0] == opAddr
}

// layoutHelp lists all differences and gives code to start from.
func layoutHelp(what []string, a, b *dwarf.StructType) string {
	const show = 12
	if n := len(what); n > show {
		what = append(what[:show:show], fmt.Sprintf("and %d more", n-show))
	}
	help := "What differs:\n  " + strings.Join(what, "\n  ") + "\n"
	if new := added(a, b); len(new) > 0 {
		help += "\nNew fields can live beside the instances, in a shadow variable. Code to start from:\n\n" + shadowCode(a, new)
	} else {
		help += "\nA field that moves or changes its size cannot be carried by a shadow variable alone: existing\n" +
			"instances hold the old one. Keep it, and add what is new under another name.\n"
	}
	return help
}
