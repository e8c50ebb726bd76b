// SPDX-License-Identifier: Apache-2.0

package patchgen

import (
	"github.com/lupatch/lupatch/internal/elfobj"
	"github.com/lupatch/lupatch/internal/refuse"
)

// entry is one entry of a special section that belongs to carried code.
type entry struct {
	special special
	sec     *elfobj.Section
	off     uint64
	item    *item
	at      uint64 // place in the item
	// parallel holds the bytes that go along in the parallel section.
	parallel []byte
}

func (e entry) bytes() []byte { return e.sec.Data[e.off : e.off+e.special.size] }

func (e entry) relocs() []elfobj.Reloc { return e.sec.RelocsIn(e.off, e.off+e.special.size) }

// entries lists those entries of the special sections of o that belong to
// items for which want is true.
func entries(o *object, sp []special, want func(*item) bool) ([]entry, error) {
	var out []entry
	for _, x := range sp {
		s := o.file.Section(x.name)
		if s == nil {
			continue
		}
		if x.size == 0 || s.Size%x.size != 0 {
			return nil, refuse.New(refuse.SpecialSection, x.name, "the section holds %d bytes, which is no multiple of its entries' size of %d", s.Size, x.size)
		}
		if s.Size != uint64(len(s.Data)) {
			return nil, refuse.New(refuse.SpecialSection, x.name, "the section has a size but no content")
		}
		par := o.file.Section(x.parallel)
		if x.parallel != "" && (par == nil || par.Size != uint64(len(par.Data)) || par.Size/x.parallelSize != s.Size/x.size) {
			return nil, refuse.New(refuse.SpecialSection, x.name, "%s does not match it entry by entry", x.parallel)
		}
		for off := uint64(0); off < s.Size; off += x.size {
			e := entry{special: x, sec: s, off: off}
			rs := s.RelocsIn(off+x.where, off+x.where+1)
			if len(rs) == 0 {
				continue // a terminator, or an entry that belongs to nothing
			}
			t, err := o.resolve(nil, rs[0])
			if err != nil {
				continue // a place outside every function
			}
			if t.item == nil || !want(t.item) {
				continue
			}
			at, _ := t.place()
			e.item, e.at = t.item, uint64(at)
			if par != nil {
				n := off / x.size * x.parallelSize
				e.parallel = par.Data[n : n+x.parallelSize]
			}
			out = append(out, e)
		}
	}
	return out, nil
}

// replacement gives the section and the stretch of the code that an
// alternative puts in place.
func (e entry) replacement() (sec *elfobj.Section, from, to uint64, err error) {
	for _, r := range e.relocs() {
		if r.Off-e.off == altReplOffset && r.Sym.Section != nil {
			from = r.Sym.Value + uint64(r.Addend)
			to = from + altReplLen(e.bytes())
			if to <= uint64(len(r.Sym.Section.Data)) && from <= to {
				return r.Sym.Section, from, to, nil
			}
		}
	}
	return nil, 0, 0, refuse.New(refuse.SpecialSection, e.item.name, "the alternative at +0x%x has no readable replacement", e.at)
}

// ftraceSites lists the functions that begin with an ftrace site.
func ftraceSites(o *object, sp []special) (map[*item]bool, error) {
	var only []special
	for _, x := range sp {
		if x.name == ftraceSection {
			only = append(only, x)
		}
	}
	es, err := entries(o, only, func(*item) bool { return true })
	if err != nil {
		return nil, err
	}
	out := map[*item]bool{}
	for _, e := range es {
		if e.at <= ftraceMaxOffset {
			out[e.item] = true
		}
	}
	return out, nil
}
