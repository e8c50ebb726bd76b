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
	at    map[*item]uint64 // where an item begins in its section
	base  map[*item]uint64 // and behind its symbol
	undef map[string]*elfobj.Symbol
	refs  map[Ref]int
	ns    map[string]bool
	// lateKeys are branches on static keys of modules.
	lateKeys []*refuse.Error
	keys     []*elfobj.Symbol // of static calls, in the order met
}

// emit writes the plan's items, each in a section of its own, the entries of
// special sections that belong to them, and names for everything that has to
// be found in the running kernel.
func emit(in *Input, p *plan, sp []special) (*Result, error) {
	e := &emitter{
		in: in, plan: p, out: &elfobj.File{},
		secOf: map[*item]*elfobj.Section{}, symOf: map[*item]*elfobj.Symbol{}, at: map[*item]uint64{}, base: map[*item]uint64{},
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
		rs, err := e.convertAll(it, it.relocs(), it.off, e.at[it])
		if err != nil {
			return nil, err
		}
		e.secOf[it].Relocs = append(e.secOf[it].Relocs, rs...)
	}
	if err := e.runtimeConstants(); err != nil {
		return nil, err
	}
	if in.LateObjtool {
		notes, err := annotations(in.New)
		if err != nil {
			return nil, err
		}
		sp = append(notes, sp...)
		e.staticCallKeys()
	}
	es, err := entries(p.new, sp, func(it *item) bool { return it.included })
	if err != nil {
		return nil, err
	}
	if err := e.specials(es); err != nil {
		return nil, err
	}
	changed, err := e.data()
	if err != nil {
		return nil, err
	}
	called := e.callbacks()
	if in.LateObjtool {
		e.withoutEndbr()
	}
	res := e.result()
	res.Data, res.Callbacks = changed, called
	res.Escapes = append(p.escapes(), p.dataEscapes()...)
	return res, nil
}

// place gives an item its section and symbol.
func (e *emitter) place(it *item) {
	s := &elfobj.Section{
		Name: sectionName(it), Type: it.sec.Type, Flags: it.sec.Flags, Align: it.sec.Align,
		Entsize: it.sec.Entsize, Size: it.lead + it.size, Data: append(it.leading(), blank(it)...),
	}
	e.at[it] = it.lead
	switch {
	case percpu(it):
		s.Type = elf.SHT_PROGBITS // the loader copies it to each processor
	case s.Type == elf.SHT_NOBITS:
		s.Data = nil
	}
	e.secOf[it] = s
	e.out.Sections = append(e.out.Sections, s)
	e.symOf[it] = e.out.SectionSymbol(s)
	if it.sym == nil {
		return
	}
	// Symbols stand behind what leads.
	bind := elf.STB_LOCAL
	if (it.twin == nil || it.promoted) && it.global() {
		bind = elf.STB_GLOBAL // other units of the patch may refer to it
	}
	name := it.name
	if n, ok := e.in.LinkNames[name]; ok && bind == elf.STB_GLOBAL {
		name = n
	}
	y := &elfobj.Symbol{Name: name, Type: it.sym.Type, Bind: bind, Section: s, Value: it.lead, Size: it.size}
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
	e.secOf[part], e.symOf[part], e.at[part] = s, e.symOf[part.parent], uint64(len(s.Data))
	e.base[part] = e.at[part] - part.parent.lead
	s.Data = append(s.Data, blank(part)...)
	s.Size = uint64(len(s.Data))
	for _, y := range e.out.Symbols {
		if y.Section == s && !y.IsSection() {
			y.Size = s.Size - y.Value
		}
	}
}

// keepName are sections that the module loader or the kernel looks up by name.
var keepName = []string{dyndbgSection, ".data.once", ".data..once", ".kprobes.text", ".noinstr.text"}

// percpuSection is what the module loader makes a copy of for each processor.
const percpuSection = ".data..percpu"

func sectionName(it *item) string {
	if percpu(it) {
		return percpuSection
	}
	if it.kind == anonymous || it.sec.Size == it.lead+it.size || slices.Contains(keepName, it.sec.Name) {
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
		if r.Off+elfobj.Width(r.Type) > from.end() {
			return nil, fmt.Errorf("the relocation at +0x%x of %s reaches beyond its end", r.Off-from.off, from.name)
		}
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
		r.Sym, r.Addend = e.own(t.item, t.off)
	default:
		r.Sym, err = e.shipped(t.item)
	}
	if err == nil {
		err = e.reachable(from, r, t)
	}
	return r, err
}

// own refers to a carried item, off bytes from its start.
func (e *emitter) own(it *item, off int64) (*elfobj.Symbol, int64) {
	if e.in.LateObjtool {
		// Objtool takes a jump to a function's symbol for one that leaves the
		// function, and other places only as offsets in sections.
		return e.out.SectionSymbol(e.secOf[it]), off + int64(e.at[it])
	}
	return e.symOf[it], off + int64(e.base[it])
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
	if p, ok := e.in.Provided[name]; ok {
		switch {
		case p.Err != nil:
			return nil, refuseAt(p.Err, from)
		case p.Ref == nil:
			return e.undefined(p.Link), nil
		case p.Ref.Object != VMLinux && e.in.Unit == VMLinux:
			return nil, refuse.New(refuse.UnresolvedSymbol, name, "module %s has it, and code of the kernel itself cannot refer to a module", p.Ref.Object)
		}
		return e.klp(*p.Ref)
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

func (e *emitter) result() *Result {
	res := &Result{Late: e.lateKeys, Object: e.out, AlreadyRan: e.plan.alreadyRan, Refs: e.refs}
	res.Namespaces = slices.Sorted(maps.Keys(e.ns))
	redirected, origins := map[*item]bool{}, e.plan.origins(e.in)
	for i, it := range e.plan.redirected {
		redirected[it] = true
		size := e.secOf[it].Size - it.lead
		alias := fmt.Sprintf("%s%d", e.in.AliasPrefix, i)
		e.out.Symbols = append(e.out.Symbols, &elfobj.Symbol{
			Name: alias, Type: elf.STT_FUNC, Bind: elf.STB_GLOBAL, Section: e.secOf[it], Value: it.lead, Size: size,
		})
		res.Functions = append(res.Functions, Function{
			Name: it.twin.name, NewName: it.name, Alias: alias, OldSize: it.twin.size, NewSize: size, Global: it.twin.global(),
		})
		origins[it].describe(&res.Functions[len(res.Functions)-1])
	}
	for _, it := range e.plan.carried {
		if it.kind == function && !redirected[it] && it.parent == nil {
			res.Functions = append(res.Functions, Function{Name: it.name, NewName: it.name, NewSize: e.secOf[it].Size - it.lead, New: true, Global: it.global()})
		}
	}
	return res
}
