// SPDX-License-Identifier: Apache-2.0

package patchgen

import (
	"bytes"
	"debug/dwarf"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
)

// shapes are the types of a version's variables. DWARF is read when the first
// is asked for: most units have no changed variable.
type shapes struct {
	obj  []byte
	read bool
	err  error
	d    *dwarf.Data
	vars map[string][]dwarf.Offset // types by the variable's name
}

func (s *shapes) load() error {
	if s.read {
		return s.err
	}
	s.read, s.vars = true, map[string][]dwarf.Offset{}
	if s.obj == nil {
		s.err = errors.New("there is no debugging information")
		return s.err
	}
	s.err = s.parse()
	return s.err
}

func (s *shapes) parse() error {
	var err error
	if s.d, err = readDWARF(s.obj); err != nil {
		return err
	}
	r := readEntries(s.d, len(s.obj))
	for {
		e, err := r.Next()
		if err != nil || e == nil {
			return err
		}
		name, _ := e.Val(dwarf.AttrName).(string)
		typ, ok := e.Val(dwarf.AttrType).(dwarf.Offset)
		if e.Tag == dwarf.TagVariable && name != "" && ok {
			s.vars[name] = append(s.vars[name], typ)
		}
	}
}

// of finds the type of a variable: that of its name and size, if all that have
// these agree.
func (s *shapes) of(it *item) (dwarf.Type, error) {
	if err := s.load(); err != nil {
		return nil, err
	}
	var found dwarf.Type
	for _, off := range s.vars[strings.TrimSuffix(baseName(it), ".")] {
		t, err := s.d.Type(off)
		if err != nil {
			return nil, err
		}
		if t.Size() != int64(it.size) {
			continue
		}
		if found != nil && found.String() != t.String() {
			return nil, fmt.Errorf("variables of this name are %v and %v", found, t)
		}
		found = t
	}
	if found == nil {
		return nil, errors.New("no variable of this name and size is described")
	}
	return found, nil
}

// leaf is the smallest part of a variable that is read and written as a whole.
type leaf struct {
	path      string
	off, size int64
	typ       dwarf.Type
	// bits is set for a bit field.
	bits bool
	// opaque names a structure around it that has to be left to the kernel.
	opaque string
}

func (l leaf) end() int64 { return l.off + l.size }

// opaqueStructs stand for code that the kernel rewrites along with them.
var opaqueStructs = map[string]bool{"static_key": true, "static_call_key": true, "tracepoint": true}

// leafAt finds the leaf of a type that holds offset at; base is where the type
// begins in the variable. ok is false for padding.
func leafAt(t dwarf.Type, path string, base, at int64) (l leaf, ok bool) {
	switch t := bare(t).(type) {
	case *dwarf.StructType:
		if t.Kind == "union" {
			return leaf{path: path, off: base, size: t.ByteSize, typ: t}, true
		}
		for _, f := range t.Field {
			from := base + f.ByteOffset
			if f.BitSize > 0 {
				from = base + f.DataBitOffset/8
				if to := base + (f.DataBitOffset+f.BitSize+7)/8; at >= from && at < to {
					return leaf{path: path + "." + f.Name, off: from, size: to - from, typ: f.Type, bits: true}, true
				}
				continue
			}
			if at < from || at >= from+f.Type.Size() {
				continue
			}
			inner := path
			if f.Name != "" {
				inner += "." + f.Name
			}
			l, ok = leafAt(f.Type, inner, from, at)
			if opaqueStructs[t.StructName] {
				l.opaque = t.StructName
			}
			return l, ok
		}
		return leaf{}, false
	case *dwarf.ArrayType:
		n := t.Type.Size()
		if n == 1 {
			return leaf{path: path, off: base, size: t.Size(), typ: t}, t.Count > 0
		}
		if n <= 0 || t.Count <= 0 {
			return leaf{}, false
		}
		i := (at - base) / n
		return leafAt(t.Type, fmt.Sprintf("%s[%d]", path, i), base+i*n, at)
	default:
		return leaf{path: path, off: base, size: t.Size(), typ: t}, t.Size() > 0
	}
}

// bare takes typedefs and qualifiers off.
func bare(t dwarf.Type) dwarf.Type {
	for {
		switch x := t.(type) {
		case *dwarf.TypedefType:
			t = x.Type
		case *dwarf.QualType:
			t = x.Type
		default:
			return t
		}
	}
}

// value writes a leaf of a variable as C would, as far as that is short.
func (o *object) value(it *item, l leaf) string {
	for _, r := range it.relocs() {
		if int64(r.Off-it.off) != l.off {
			continue
		}
		t, err := o.resolve(it, r)
		switch {
		case err != nil:
			return "an address"
		case t.ext != nil:
			return t.ext.Name
		case t.item.kind == anonymous:
			at, known := t.place()
			if s, ok := t.item.sec.CString(t.item.off + uint64(at)); known && ok {
				return fmt.Sprintf("%.40q", s)
			}
		case t.off != 0:
			return fmt.Sprintf("%s+%d", t.item.name, t.off)
		}
		return t.item.name
	}
	b := contents(it)
	if l.off < 0 || l.end() > int64(len(b)) {
		return "?"
	}
	b = b[l.off:l.end()]
	if _, is := bare(l.typ).(*dwarf.ArrayType); is && isText(b) {
		return fmt.Sprintf("%.40q", bytes.TrimRight(b, "\x00"))
	}
	return number64(b, bare(l.typ))
}

func number64(b []byte, t dwarf.Type) string {
	if len(b) > 8 || len(b)&(len(b)-1) != 0 {
		return fmt.Sprintf("%.16x", b)
	}
	var full [8]byte
	copy(full[:], b)
	u := binary.LittleEndian.Uint64(full[:])
	shift := 64 - 8*len(b)
	switch t := t.(type) {
	case *dwarf.IntType, *dwarf.CharType:
		return fmt.Sprint(int64(u<<shift) >> shift)
	case *dwarf.EnumType:
		for _, v := range t.Val {
			if v.Val == int64(u<<shift)>>shift || uint64(v.Val) == u {
				return v.Name
			}
		}
	case *dwarf.PtrType:
		if u == 0 {
			return "NULL"
		}
		return fmt.Sprintf("%#x", u)
	}
	return fmt.Sprint(u)
}
