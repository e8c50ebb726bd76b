// SPDX-License-Identifier: Apache-2.0

package patchgen

import (
	"github.com/lupatch/lupatch/internal/elfobj"
	"github.com/lupatch/lupatch/internal/refuse"
)

// target is what a relocation refers to.
type target struct {
	// item is set if it is in the same object, else ext names the symbol.
	item *item
	ext  *elfobj.Symbol
	// off is the relocation's addend counted from the item's start, or the
	// plain addend of an external symbol. For a field relative to the program
	// counter the distance to the end of its instruction is still in it.
	off int64

	from *item
	rel  elfobj.Reloc
}

// place is the offset in the item that is really meant; ok is false if that
// cannot be told. It may need the code decoded, which takes longer than all else.
func (t target) place() (at int64, ok bool) {
	delta, ok := fieldDelta(t.from, t.rel)
	return t.off + delta, ok
}

// resolve finds what the relocation r, found in item from, refers to. A
// reference to a section that holds several things needs the length of the
// instruction, because the addend of a relative field depends on it; where
// the instruction cannot be decoded, that is refused and never guessed.
func (o *object) resolve(from *item, r elfobj.Reloc) (target, error) {
	if r.Sym.Section == nil {
		return target{ext: r.Sym, off: r.Addend, from: from, rel: r}, nil
	}
	if it := o.bySym[r.Sym]; it != nil && !r.Sym.IsSection() {
		return target{item: it, off: int64(r.Sym.Value) + r.Addend - int64(it.off), from: from, rel: r}, nil
	}
	abs := int64(r.Sym.Value) + r.Addend
	list := o.bySec[r.Sym.Section]
	if len(list) == 1 && list[0].off == 0 {
		return target{item: list[0], off: abs, from: from, rel: r}, nil
	}
	delta, ok := fieldDelta(from, r)
	if !ok {
		return target{}, refuse.New(refuse.Undecodable, from.name,
			"the instruction at +0x%x refers to section %s and cannot be decoded", r.Off-from.off, r.Sym.Section.Name)
	}
	if it := o.in(r.Sym.Section, uint64(abs+delta)); it != nil {
		return target{item: it, off: abs - int64(it.off), from: from, rel: r}, nil
	}
	start := uint64(0)
	if from != nil {
		start = from.off
	}
	return target{}, refuse.New(refuse.Undecodable, nameOf(from),
		"the reference at +0x%x goes to %s+0x%x, where no symbol lies", r.Off-start, r.Sym.Section.Name, abs+delta)
}

// fieldDelta is what the processor adds to a field relative to the program
// counter beyond what the linker puts in: the distance from the field to the
// end of the instruction. Outside of code nothing is added.
func fieldDelta(from *item, r elfobj.Reloc) (int64, bool) {
	if !elfobj.PCRelative(r.Type) {
		return 0, true
	}
	if from == nil || !from.sec.Exec() {
		return 0, true
	}
	if from.kind != function {
		return 4, true // .altinstr_aux: only branches refer out of it relatively
	}
	in, ok := from.insnAt(r.Off)
	if !ok {
		return 0, false
	}
	return int64(in.end + from.off - r.Off), true
}
