// SPDX-License-Identifier: Apache-2.0

package patchgen

import (
	"debug/elf"
	"fmt"
	"maps"
	"slices"

	"github.com/lupatch/lupatch/internal/elfobj"
	"github.com/lupatch/lupatch/internal/refuse"
)

// emitter lays a plan out as an object.
type emitter struct {
	in    *Input
	plan  *plan
	out   *elfobj.File
	secOf map[*item]*elfobj.Section
	symOf map[*item]*elfobj.Symbol
	// base is where an item begins in its section, and behind its symbol.
	base  map[*item]uint64
	undef map[string]*elfobj.Symbol
	refs  map[Ref]int
	ns    map[string]bool
}

// emit writes the plan's items, each in a section of its own, the entries of
// special sections that belong to them, and names for everything that has to
// be found in the running kernel.
func emit(in *Input, p *plan, sp []special) (*Result, error) {
	e := &emitter{
		in: in, plan: p, out: &elfobj.File{},
		secOf: map[*item]*elfobj.Section{}, symOf: map[*item]*elfobj.Symbol{}, base: map[*item]uint64{},
		undef: map[string]*elfobj.Symbol{}, refs: map[Ref]int{}, ns: map[string]bool{},
	}
	for _, it := range p.carried {
		if it.parent == nil {
			e.place(it)
		}
	}
	for _, it := range p.carried {
		if it.parent != nil {
			e.append(it)
		}
	}
	for _, it := range p.carried {
		rs, err := e.convertAll(it, it.relocs(), it.off, e.base[it])
		if err != nil {
			return nil, err
		}
		e.secOf[it].Relocs = append(e.secOf[it].Relocs, rs...)
	}
	es, err := entries(p.new, sp, func(it *item) bool { return it.included })
	if err != nil {
		return nil, err
	}
	if err := e.specials(es); err != nil {
		return nil, err
	}
	res := e.result()
	res.Escapes = p.escapes()
	return res, nil
}

// place gives an item its section and symbol.
func (e *emitter) place(it *item) {
	s := &elfobj.Section{
		Name: sectionName(it), Type: it.sec.Type, Flags: it.sec.Flags, Align: it.sec.Align,
		Entsize: it.sec.Entsize, Size: it.size, Data: blank(it),
	}
	if s.Type == elf.SHT_NOBITS {
		s.Data = nil
	}
	e.secOf[it] = s
	e.out.Sections = append(e.out.Sections, s)
	e.symOf[it] = e.out.SectionSymbol(s)
	if it.sym == nil {
		return
	}
	bind := elf.STB_LOCAL
	if it.twin == nil && it.global() {
		bind = elf.STB_GLOBAL // other units of the patch may refer to it
	}
	y := &elfobj.Symbol{Name: it.name, Type: it.sym.Type, Bind: bind, Section: s, Size: it.size}
	e.out.Symbols = append(e.out.Symbols, y)
	e.symOf[it] = y
}

// append puts the split-off part of a function behind it, without a symbol of
// its own. The livepatch core looks for tasks between a function's address and
// the next symbol: a part elsewhere would be overlooked when the update is
// taken back, with a task still asleep in it.
func (e *emitter) append(part *item) {
	s := e.secOf[part.parent]
	if part.parent.parent != nil || s == nil {
		e.place(part)
		return
	}
	for uint64(len(s.Data))%max(part.sec.Align, 1) != 0 {
		s.Data = append(s.Data, int3)
	}
	e.secOf[part], e.symOf[part], e.base[part] = s, e.symOf[part.parent], uint64(len(s.Data))
	s.Data = append(s.Data, blank(part)...)
	s.Size = uint64(len(s.Data))
	for _, y := range e.out.Symbols {
		if y.Section == s && !y.IsSection() {
			y.Size = s.Size
		}
	}
}

// keepName are sections that the module loader or the kernel looks up by name.
var keepName = []string{"__dyndbg", ".data.once"}

func sectionName(it *item) string {
	if it.kind == anonymous || it.sec.Size == it.size || slices.Contains(keepName, it.sec.Name) {
		return it.sec.Name
	}
	if it.kind == function {
		return ".text." + it.name
	}
	if it.sec.Type == elf.SHT_NOBITS {
		return ".bss." + it.name
	}
	if it.sec.Writable() {
		return ".data." + it.name
	}
	return ".rodata." + it.name
}

func (e *emitter) convertAll(from *item, rs []elfobj.Reloc, base, at uint64) ([]elfobj.Reloc, error) {
	out := make([]elfobj.Reloc, 0, len(rs))
	for _, r := range rs {
		c, err := e.convert(from, r)
		if err != nil {
			return nil, err
		}
		c.Off = r.Off - base + at
		out = append(out, c)
	}
	return out, nil
}

// convert points one relocation at what it means in the update: at a carried
// item, or at the running kernel.
func (e *emitter) convert(from *item, r elfobj.Reloc) (elfobj.Reloc, error) {
	if elfobj.Width(r.Type) == 0 {
		return r, refuse.New(refuse.SpecialSection, nameOf(from), "relocation type %v is not supported", r.Type)
	}
	t, err := e.plan.new.resolve(from, r)
	if err != nil {
		return r, err
	}
	r.Addend = t.off
	switch {
	case t.ext != nil:
		r.Sym, err = e.external(t.ext.Name, from)
	case e.secOf[t.item] != nil && (from == nil || e.stays(t.item, from)):
		r.Sym = e.symOf[t.item]
		r.Addend += int64(e.base[t.item])
	default:
		r.Sym, err = e.shipped(t.item)
	}
	return r, err
}

// stays reports whether a reference to a carried item goes to the copy in the
// update: always, except for functions that also exist in the kernel. A part
// and its function, and code that was moved out of line, belong together.
func (e *emitter) stays(t, from *item) bool {
	if t == from || e.plan.follows(t, from) || t == from.parent || t.parent != nil && t.parent == from.parent {
		return true
	}
	return from.kind == anonymous && from.sec.Exec()
}

func nameOf(it *item) string {
	if it == nil {
		return ""
	}
	return it.name
}

// external refers to a symbol that the unit itself does not define.
func (e *emitter) external(name string, from *item) (*elfobj.Symbol, error) {
	if e.in.Provided[name] {
		return e.undefined(name), nil
	}
	if owner, ns, ok := e.in.Kernel.Exported(name); ok && owner == VMLinux {
		if ns != "" {
			e.ns[ns] = true
		}
		return e.undefined(name), e.count(Ref{Object: owner, Symbol: name, Exported: true})
	} else if ok {
		// A plain reference would tie the module to the update for good.
		return e.klp(Ref{Object: owner, Symbol: name})
	}
	ref, err := e.in.Kernel.Locate(name, false)
	if err != nil {
		return nil, refuseAt(err, from)
	}
	return e.klp(ref)
}

// shipped refers to an item of the running kernel by the old version's name.
func (e *emitter) shipped(it *item) (*elfobj.Symbol, error) {
	old := it.twin
	if old == nil {
		return nil, fmt.Errorf("%s is neither carried nor in the old version", it.name)
	}
	if owner, ns, ok := e.in.Kernel.Exported(old.name); ok && owner == VMLinux && e.in.Unit == VMLinux && old.global() {
		if ns != "" {
			e.ns[ns] = true
		}
		return e.undefined(old.name), e.count(Ref{Object: owner, Symbol: old.name, Exported: true})
	}
	if old.sym == nil {
		return nil, refuse.New(refuse.UnresolvedSymbol, it.name, "it has no name in the running kernel")
	}
	ref, err := e.in.Kernel.Locate(old.name, !old.global())
	if err != nil {
		return nil, err
	}
	return e.klp(ref)
}

func (e *emitter) count(r Ref) error {
	e.refs[r]++
	return nil
}

func (e *emitter) klp(r Ref) (*elfobj.Symbol, error) {
	e.refs[r]++
	return e.undefined(KlpSymbol(e.in.Unit, r)), nil
}

func (e *emitter) undefined(name string) *elfobj.Symbol {
	if y := e.undef[name]; y != nil {
		return y
	}
	y := &elfobj.Symbol{Name: name, Bind: elf.STB_GLOBAL}
	e.undef[name] = y
	e.out.Symbols = append(e.out.Symbols, y)
	return y
}

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
		dst := get(x.sec)
		at := add(dst, x.bytes())
		if x.parallel != nil {
			add(get(e.plan.new.file.Section(x.special.parallel)), x.parallel)
		}
		for _, r := range x.relocs() {
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
		r.Sym, r.Addend = e.symOf[t.item], t.off+int64(e.base[t.item])
		return r, nil
	}
	c, err := e.convert(nil, r)
	if err == nil && x.special.late {
		err = e.late(x, c.Sym.Name)
	}
	return c, err
}

// late refuses an entry that needs a symbol of a module: the kernel acts on
// these sections when the update is loaded, and resolves symbols of patched
// modules only after that.
func (e *emitter) late(x entry, sym string) error {
	ref, ok := ParseKlp(sym)
	if !ok || ref.Object == VMLinux {
		return nil
	}
	return refuse.New(refuse.LateKey, x.item.name, "%s needs %s of module %s when the update is loaded, but it is resolved only after that", x.special.name, ref.Symbol, ref.Object)
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
		c, err := e.convert(nil, q)
		if err != nil {
			return r, err
		}
		if err := e.late(x, c.Sym.Name); err != nil {
			return r, err
		}
		c.Off = q.Off - from + at
		clear(dst.Data[c.Off : c.Off+elfobj.Width(c.Type)])
		dst.Relocs = append(dst.Relocs, c)
	}
	r.Sym, r.Addend = e.out.SectionSymbol(dst), int64(at)
	return r, nil
}

func (e *emitter) result() *Result {
	res := &Result{Object: e.out, AlreadyRan: e.plan.alreadyRan, Refs: e.refs}
	res.Namespaces = slices.Sorted(maps.Keys(e.ns))
	redirected, probe := map[*item]bool{}, e.plan.probeOnly()
	for i, it := range e.plan.redirected {
		redirected[it] = true
		size := e.secOf[it].Size
		alias := fmt.Sprintf("%s%d", e.in.AliasPrefix, i)
		e.out.Symbols = append(e.out.Symbols, &elfobj.Symbol{
			Name: alias, Type: elf.STT_FUNC, Bind: elf.STB_GLOBAL, Section: e.secOf[it], Size: size,
		})
		res.Functions = append(res.Functions, Function{
			Name: it.twin.name, NewName: it.name, Alias: alias, OldSize: it.twin.size, NewSize: size, Global: it.twin.global(), ProbeOnly: probe[it],
		})
	}
	for _, it := range e.plan.carried {
		if it.kind == function && !redirected[it] && it.parent == nil {
			res.Functions = append(res.Functions, Function{Name: it.name, NewName: it.name, NewSize: e.secOf[it].Size, New: true, Global: it.global()})
		}
	}
	return res
}
