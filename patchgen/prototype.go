// SPDX-License-Identifier: Apache-2.0

package patchgen

import (
	"debug/dwarf"
	"fmt"
	"slices"
	"strings"
)

// Prototypes say what the functions of an object take and give, by its DWARF.
// They are written as in C, without the names of parameters, without qualifiers
// and with typedefs resolved: two that are written alike are called alike.
type Prototypes struct {
	// Defined are the object's own functions, static ones among them.
	Defined map[string]string
	// Declared are functions that the object uses, with all that it takes them
	// for: a file may hold several declarations.
	Declared map[string][]string
	// Slots are pointers to functions, in structures ("member open of struct ops")
	// and in variables ("variable hook").
	Slots map[string]string
}

// ReadPrototypes reads them of an object file with DWARF.
func ReadPrototypes(obj []byte) (*Prototypes, error) {
	d, err := readDWARF(obj)
	if err != nil {
		return nil, fmt.Errorf("reading prototypes: %w", err)
	}
	p := &Prototypes{Defined: map[string]string{}, Declared: map[string][]string{}, Slots: map[string]string{}}
	if err := p.read(d, len(obj)); err != nil {
		return nil, fmt.Errorf("reading prototypes: %w", err)
	}
	return p, nil
}

// scope is an entry whose children are being read.
type scope struct {
	tag  dwarf.Tag
	name string
	// function is set for a function with a name.
	function *prototype
}

// prototype is one function's on its way.
type prototype struct {
	name     string
	declared bool
	result   dwarf.Offset
	params   []string
}

func (p *Prototypes) read(d *dwarf.Data, size int) error {
	var stack []scope
	r := readEntries(d, size)
	for {
		e, err := r.Next()
		if err != nil || e == nil {
			return err
		}
		if e.Tag == 0 {
			if n := len(stack); n > 0 {
				if err := p.end(d, stack[n-1].function); err != nil {
					return err
				}
				stack = stack[:n-1]
			}
			continue
		}
		var around scope
		if len(stack) > 0 {
			around = stack[len(stack)-1]
		}
		if err := p.parameter(d, e, around); err != nil {
			return err
		}
		if err := p.slot(d, e, around); err != nil {
			return err
		}
		s := scope{tag: e.Tag}
		s.name, _ = e.Val(dwarf.AttrName).(string)
		// The second entry of a function that was also inlined has no name.
		if e.Tag == dwarf.TagSubprogram && s.name != "" {
			s.function = &prototype{name: s.name}
			s.function.declared, _ = e.Val(dwarf.AttrDeclaration).(bool)
			s.function.result, _ = e.Val(dwarf.AttrType).(dwarf.Offset)
		}
		if e.Children {
			stack = append(stack, s)
		} else if err := p.end(d, s.function); err != nil {
			return err
		}
	}
}

func (p *Prototypes) parameter(d *dwarf.Data, e *dwarf.Entry, around scope) error {
	if around.function == nil {
		return nil
	}
	switch e.Tag {
	case dwarf.TagFormalParameter:
		off, _ := e.Val(dwarf.AttrType).(dwarf.Offset)
		text, err := typeText(d, off)
		if err != nil {
			return err
		}
		around.function.params = append(around.function.params, text)
	case dwarf.TagUnspecifiedParameters:
		around.function.params = append(around.function.params, "...")
	}
	return nil
}

// end notes a function of which all is known.
func (p *Prototypes) end(d *dwarf.Data, f *prototype) error {
	if f == nil {
		return nil
	}
	result := "void"
	if f.result != 0 {
		var err error
		if result, err = typeText(d, f.result); err != nil {
			return err
		}
	}
	text := functionText(result, f.params)
	switch {
	case !f.declared:
		p.Defined[f.name] = text
	case !slices.Contains(p.Declared[f.name], text):
		p.Declared[f.name] = append(p.Declared[f.name], text)
	}
	return nil
}

// slot notes a member or a variable that points to a function.
func (p *Prototypes) slot(d *dwarf.Data, e *dwarf.Entry, around scope) error {
	where := ""
	switch {
	case e.Tag == dwarf.TagMember && around.tag == dwarf.TagStructType && around.name != "":
		where = "of struct " + around.name
	case e.Tag == dwarf.TagMember && around.tag == dwarf.TagUnionType && around.name != "":
		where = "of union " + around.name
	case e.Tag == dwarf.TagVariable && around.tag == dwarf.TagCompileUnit:
	default:
		return nil
	}
	name, _ := e.Val(dwarf.AttrName).(string)
	off, ok := e.Val(dwarf.AttrType).(dwarf.Offset)
	if name == "" || !ok {
		return nil
	}
	t, err := d.Type(off)
	if err != nil {
		return err
	}
	fn := pointee(t)
	if fn == nil {
		return nil
	}
	if where == "" {
		p.Slots["variable "+name] = spell(fn, 0)
		return nil
	}
	p.Slots["member "+name+" "+where] = spell(fn, 0)
	return nil
}

// pointee is the function that a pointer, or each pointer of an array, leads to.
func pointee(t dwarf.Type) *dwarf.FuncType {
	t = bare(t)
	if a, ok := t.(*dwarf.ArrayType); ok {
		t = bare(a.Type)
	}
	ptr, ok := t.(*dwarf.PtrType)
	if !ok || ptr.Type == nil {
		return nil
	}
	fn, _ := bare(ptr.Type).(*dwarf.FuncType)
	return fn
}

func typeText(d *dwarf.Data, off dwarf.Offset) (string, error) {
	t, err := d.Type(off)
	if err != nil {
		return "", err
	}
	return spell(t, 0), nil
}

func functionText(result string, params []string) string {
	if len(params) == 0 {
		params = []string{"void"}
	}
	return result + " (" + strings.Join(params, ", ") + ")"
}

// maxSpelled bounds how deep a type is written out: damaged DWARF may go round
// in circles.
const maxSpelled = 24

// spell writes a type. Structures, unions and enumerations are their names, since
// layouts are compared elsewhere.
func spell(t dwarf.Type, depth int) string {
	if depth > maxSpelled {
		return "…"
	}
	switch t := t.(type) {
	case nil, *dwarf.VoidType:
		return "void"
	case *dwarf.TypedefType:
		switch in := bare(t).(type) {
		case *dwarf.StructType:
			if in.StructName == "" {
				return t.Name
			}
		case *dwarf.EnumType:
			if in.EnumName == "" {
				return t.Name
			}
		}
		return spell(t.Type, depth+1)
	case *dwarf.QualType:
		return spell(t.Type, depth+1)
	case *dwarf.PtrType:
		to := spell(t.Type, depth+1)
		if strings.HasSuffix(to, "*") {
			return to + "*"
		}
		return to + " *"
	case *dwarf.FuncType:
		var params []string
		for _, p := range t.ParamType {
			params = append(params, spell(p, depth+1))
		}
		return functionText(spell(t.ReturnType, depth+1), params)
	case *dwarf.DotDotDotType:
		return "..."
	case *dwarf.ArrayType:
		return fmt.Sprintf("%s[%d]", spell(t.Type, depth+1), t.Count)
	case *dwarf.StructType:
		return fmt.Sprintf("%s %s", t.Kind, orSize(t.StructName, t.ByteSize))
	case *dwarf.EnumType:
		return "enum " + orSize(t.EnumName, t.ByteSize)
	case *dwarf.IntType, *dwarf.CharType:
		return orSize(signedNames[t.Size()], t.Size())
	case *dwarf.UintType, *dwarf.UcharType:
		return "unsigned " + orSize(signedNames[t.Size()], t.Size())
	}
	return t.String()
}

var signedNames = map[int64]string{1: "char", 2: "short", 4: "int", 8: "long"}

// orSize is the name, or for something without one its size.
func orSize(name string, size int64) string {
	if name == "" {
		return fmt.Sprintf("of %d bytes", size)
	}
	return name
}
