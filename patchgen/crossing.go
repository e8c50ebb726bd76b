// SPDX-License-Identifier: Apache-2.0

package patchgen

import (
	"debug/elf"
	"sort"

	"github.com/lupatch/lupatch/internal/elfobj"
	"github.com/lupatch/lupatch/internal/refuse"
)

// crossings turns branches between functions of one section, which the
// assembler resolves itself, into relocations, so that each function can be
// compared and moved alone. Functions share a section only where an attribute
// puts them there (.init.text, .sched.text, .noinstr.text).
func (o *object) crossings() {
	for s, list := range o.bySec {
		if !s.Exec() || len(list) < 2 {
			continue
		}
		var more []elfobj.Reloc
		for _, it := range list {
			if it.kind == function {
				more = append(more, o.crossing(it)...)
			}
		}
		if len(more) > 0 {
			s.Relocs = append(append([]elfobj.Reloc(nil), s.Relocs...), more...)
			sort.SliceStable(s.Relocs, func(i, j int) bool { return s.Relocs[i].Off < s.Relocs[j].Off })
		}
	}
}

func (o *object) crossing(it *item) (out []elfobj.Reloc) {
	it.insnAt(it.off)
	for _, in := range it.insns {
		field, width, to, ok := in.relTarget()
		if !ok || to >= 0 && to < int64(it.size) || len(it.sec.RelocsIn(it.off+field, it.off+field+1)) > 0 {
			continue
		}
		dest := o.in(it.sec, uint64(int64(it.off)+to))
		if dest == nil || dest.sym == nil || width != 4 {
			continue // movable() refuses it, should the function be needed
		}
		addend := int64(it.off) + to - int64(dest.off) - int64(in.end-field)
		out = append(out, elfobj.Reloc{Off: it.off + field, Type: elf.R_X86_64_PLT32, Sym: dest.sym, Addend: addend})
	}
	return out
}

// movable checks that a function that shares its section can be carried
// alone: every branch that leaves it must be a relocation.
func (o *object) movable(it *item) error {
	if it.kind != function || len(o.bySec[it.sec]) < 2 {
		return nil
	}
	it.insnAt(it.off)
	if n := len(it.insns); n == 0 || it.insns[n-1].end < it.size {
		return refuse.New(refuse.Undecodable, it.name, "the function shares section %s with others and cannot be decoded to its end", it.sec.Name)
	}
	for _, in := range it.insns {
		field, _, to, ok := in.relTarget()
		if ok && (to < 0 || to >= int64(it.size)) && len(it.sec.RelocsIn(it.off+field, it.off+field+1)) == 0 {
			return refuse.New(refuse.Undecodable, it.name, "the branch at +0x%x leaves the function in a form that cannot be relocated", in.off)
		}
	}
	return nil
}
