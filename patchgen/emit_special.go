// SPDX-License-Identifier: Apache-2.0

package patchgen

import (
	"fmt"

	"github.com/lupatch/lupatch/internal/elfobj"
	"github.com/lupatch/lupatch/internal/refuse"
)

// specials writes the entries that belong to carried code.
func (e *emitter) specials(es []entry) error {
	secs := map[string]*elfobj.Section{}
	get := func(like *elfobj.Section) *elfobj.Section {
		s := secs[like.Name]
		if s == nil {
			s = &elfobj.Section{Name: like.Name, Type: like.Type, Flags: like.Flags, Align: like.Align, Entsize: like.Entsize}
			secs[like.Name] = s
			e.out.Sections = append(e.out.Sections, s)
		}
		return s
	}
	add := func(s *elfobj.Section, b []byte) uint64 {
		at := uint64(len(s.Data))
		s.Data = append(s.Data, b...)
		s.Size = uint64(len(s.Data))
		return at
	}
	for _, x := range es {
		if drop, err := e.late(x); err != nil {
			return err
		} else if drop {
			continue
		}
		dst := get(x.sec)
		at := add(dst, x.bytes())
		if x.parallel != nil {
			add(get(e.plan.new.file.Section(x.special.parallel)), x.parallel)
		}
		for _, r := range x.relocs() {
			if r.Off+elfobj.Width(r.Type) > x.off+x.special.size {
				return fmt.Errorf("a relocation reaches beyond the end of an entry of %s", x.special.name)
			}
			if x.special.name == altSection && r.Off-x.off == altReplOffset {
				c, err := e.replacement(x, r, get, add)
				if err != nil {
					return err
				}
				c.Off = r.Off - x.off + at
				dst.Relocs = append(dst.Relocs, c)
				continue
			}
			c, err := e.entryReloc(x, r)
			if err != nil {
				return err
			}
			c.Off = r.Off - x.off + at
			dst.Relocs = append(dst.Relocs, c)
		}
	}
	return nil
}

// entryReloc converts a relocation of an entry. Its own code is always the
// carried copy, whether or not the function exists in the kernel too.
func (e *emitter) entryReloc(x entry, r elfobj.Reloc) (elfobj.Reloc, error) {
	t, err := e.plan.new.resolve(nil, r)
	if err == nil && t.item != nil && t.item.included && t.item.kind == function {
		r.Sym, r.Addend = e.own(t.item, t.off)
		return r, nil
	}
	return e.convert(nil, r)
}

// late deals with an entry that needs a symbol of a module: the kernel acts on
// these sections when the update is loaded, and resolves symbols of patched
// modules only after that. A static call works without its entry: it then goes
// through the trampoline, which the kernel keeps up to date (since 5.10). A
// branch on a static key does not; the caller is told.
func (e *emitter) late(x entry) (drop bool, err error) {
	if !x.special.late {
		return false, nil
	}
	for _, r := range x.relocs() {
		if x.special.name == altSection && r.Off-x.off == altReplOffset {
			continue // the replacement's code goes along
		}
		ref, err := e.foreign(r)
		if err != nil {
			return false, err
		}
		if ref == "" {
			continue
		}
		why := lateKey(x, ref)
		switch x.special.name {
		case staticCallSection:
			return true, nil
		case jumpSection:
			e.lateKeys = append(e.lateKeys, why)
			return true, nil
		}
		return false, why
	}
	return false, nil
}

func lateKey(x entry, ref string) *refuse.Error {
	return refuse.New(refuse.LateKey, x.item.name, "%s needs %s when the update is loaded, but it is resolved only after that", x.special.name, ref)
}

// foreign describes the symbol of a module that a relocation needs; empty if it
// needs none.
func (e *emitter) foreign(r elfobj.Reloc) (string, error) {
	t, err := e.plan.new.resolve(nil, r)
	if err != nil {
		return "", err
	}
	name, owner := "", e.in.Unit
	switch {
	case t.ext != nil:
		name = t.ext.Name
		var ok bool
		if p, is := e.in.Provided[name]; is {
			if p.Ref == nil {
				return "", p.Err
			}
			owner = p.Ref.Object
		} else if owner, _, ok = e.in.Kernel.Exported(name); !ok {
			ref, err := e.in.Kernel.Locate(name, false)
			if err != nil {
				return "", err
			}
			owner = ref.Object
		}
	case t.item.included:
		return "", nil
	default:
		name = t.item.name
	}
	if owner == VMLinux {
		return "", nil
	}
	return name + " of module " + owner, nil
}

// replacement copies the code an alternative puts in place.
func (e *emitter) replacement(x entry, r elfobj.Reloc, get func(*elfobj.Section) *elfobj.Section, add func(*elfobj.Section, []byte) uint64) (elfobj.Reloc, error) {
	sec, from, to, err := x.replacement()
	if err != nil {
		return r, err
	}
	dst := get(sec)
	at := add(dst, sec.Data[from:to])
	for _, q := range sec.RelocsIn(from, to) {
		if ref, err := e.foreign(q); err != nil {
			return r, err
		} else if ref != "" {
			return r, lateKey(x, ref)
		}
		c, err := e.convert(nil, q)
		if err != nil {
			return r, err
		}
		if q.Off+elfobj.Width(q.Type) > to {
			return r, fmt.Errorf("a relocation reaches beyond the end of a replacement in %s", sec.Name)
		}
		c.Off = q.Off - from + at
		clear(dst.Data[c.Off : c.Off+elfobj.Width(c.Type)])
		dst.Relocs = append(dst.Relocs, c)
	}
	r.Sym, r.Addend = e.out.SectionSymbol(dst), int64(at)
	return r, nil
}
