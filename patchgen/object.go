// SPDX-License-Identifier: Apache-2.0

package patchgen

import (
	"debug/elf"
	"sort"
	"strings"

	"github.com/lupatch/lupatch/internal/elfobj"
)

// kind is what an item is.
type kind int

const (
	function kind = iota
	data
	// anonymous is a section, or a stretch of one, that no symbol names:
	// strings and constants. It has no identity and is always copied.
	anonymous
)

// life is when an item exists in a running kernel.
type life int

const (
	always life = iota
	initOnly
	exitOnly
)

// item is a stretch of a section that is carried or left as a whole: a
// function, a variable, a string section.
type item struct {
	name      string
	base      string         // see baseName
	sym       *elfobj.Symbol // nil if anonymous
	sec       *elfobj.Section
	off, size uint64
	// lead is the number of bytes before it that belong to it: room for code
	// that the kernel puts before a function's entry.
	lead uint64
	kind kind
	life life
	obj  *object

	// twin is the same thing in the other version.
	twin *item
	// pointedTo is set for data whose address is in other data.
	pointedTo bool
	// promoted is set for a function that exists in the kernel but is carried
	// along as if it were new, because it cannot be redirected.
	promoted bool
	// parent is the function that a .cold part was split off.
	parent *item
	parts  []*item

	// registry is set for what lies in a registry section.
	registry bool

	// ignored is set for what does not count as changed, on the author's word.
	ignored bool
	// pinned is set for a variable that never travels with its readers.
	pinned   bool
	changed  bool
	included bool

	insns []insn // decoded code of a function
}

// object is one version of a translation unit, seen as items.
type object struct {
	file  *elfobj.File
	items []*item
	bySec map[*elfobj.Section][]*item // by offset
	bySym map[*elfobj.Symbol]*item
}

func (it *item) end() uint64 { return it.off + it.size }

// code is the item's bytes; nil for what starts as zeros.
func (it *item) code() []byte {
	if it.sec.Type == elf.SHT_NOBITS {
		return nil
	}
	return it.sec.Data[it.off:it.end()]
}

func (it *item) relocs() []elfobj.Reloc { return it.sec.RelocsIn(it.off, it.end()) }

func (it *item) global() bool { return it.sym != nil && it.sym.Bind != elf.STB_LOCAL }

// insnAt decodes the instruction that holds section offset off.
func (it *item) insnAt(off uint64) (insn, bool) {
	if it.kind != function {
		return insn{}, false
	}
	if it.insns == nil {
		it.insns = decode(it.code())
	}
	return insnAt(it.insns, off-it.off)
}

// view divides a version of the unit into items.
func view(f *elfobj.File, sp []special) *object {
	o := &object{file: f, bySec: map[*elfobj.Section][]*item{}, bySym: map[*elfobj.Symbol]*item{}}
	roles := map[*elfobj.Section]role{}
	for _, s := range f.Sections {
		roles[s] = roleOf(s, sp)
		empty := s.Type == elf.SHT_NOBITS
		if roles[s] != roleSpecial && (empty && s.Exec() || !empty && s.Size != uint64(len(s.Data))) {
			roles[s] = roleIgnored // a damaged object: code or data without content
		}
	}
	o.named(roles)
	o.unnamed(roles)
	for s := range o.bySec {
		list := o.bySec[s]
		sort.SliceStable(list, func(i, j int) bool { return list[i].off < list[j].off })
	}
	o.leads()
	o.crossings()
	o.cold()
	o.notePointers()
	return o
}

// named makes an item of every function and variable. Aliases share one.
func (o *object) named(roles map[*elfobj.Section]role) {
	type place struct {
		sec *elfobj.Section
		off uint64
	}
	at := map[place]*item{}
	syms := append([]*elfobj.Symbol(nil), o.file.Symbols...)
	// A global name is the one others know; the widest symbol is the whole.
	sort.SliceStable(syms, func(i, j int) bool {
		a, b := syms[i], syms[j]
		if a.Size != b.Size {
			return a.Size > b.Size
		}
		return a.Bind != elf.STB_LOCAL && b.Bind == elf.STB_LOCAL
	})
	for _, y := range syms {
		if y.Section == nil || y.IsSection() || y.Type == elf.STT_FILE {
			continue
		}
		if r := roles[y.Section]; r != roleItems && r != roleRegistry {
			continue
		}
		if y.Value > y.Section.Size || y.Size > y.Section.Size-y.Value {
			continue // a damaged object: nothing lies there
		}
		if y.Size == 0 && y.Type != elf.STT_FUNC && y.Type != elf.STT_OBJECT && y.Bind == elf.STB_LOCAL {
			continue // a label; an object may be an empty structure
		}
		if it := at[place{y.Section, y.Value}]; it != nil {
			o.bySym[y] = it
			continue
		}
		it := &item{name: y.Name, sym: y, sec: y.Section, off: y.Value, size: y.Size, kind: data, life: lifeOf(y.Section.Name), obj: o}
		if y.Section.Exec() {
			it.kind = function
		}
		it.registry = roles[y.Section] == roleRegistry
		at[place{y.Section, y.Value}] = it
		o.add(it)
		o.bySym[y] = it
	}
}

func (o *object) add(it *item) {
	o.items = append(o.items, it)
	o.bySec[it.sec] = append(o.bySec[it.sec], it)
}

// unnamed makes an item of every section without symbols, and of the pieces
// of .altinstr_aux, which begin where code refers to them.
func (o *object) unnamed(roles map[*elfobj.Section]role) {
	for _, s := range o.file.Sections {
		if r := roles[s]; r != roleItems && r != roleRegistry || len(o.bySec[s]) > 0 || s.Size == 0 {
			continue
		}
		if s.Name == altAux {
			o.pieces(s)
			continue
		}
		o.add(&item{name: s.Name, sec: s, size: s.Size, kind: anonymous, life: lifeOf(s.Name), obj: o, registry: roles[s] == roleRegistry})
	}
}

func (o *object) pieces(s *elfobj.Section) {
	starts := map[uint64]bool{}
	for _, from := range o.file.Sections {
		if !from.Exec() || from == s {
			continue
		}
		for _, r := range from.Relocs {
			// A branch field is the last of its instruction, hence the 4.
			if r.Sym.Section == s && elfobj.PCRelative(r.Type) {
				starts[r.Sym.Value+uint64(r.Addend)+4] = true
			}
		}
	}
	var at []uint64
	for off := range starts {
		if off < s.Size {
			at = append(at, off)
		}
	}
	sort.Slice(at, func(i, j int) bool { return at[i] < at[j] })
	for i, off := range at {
		end := s.Size
		if i+1 < len(at) {
			end = at[i+1]
		}
		o.add(&item{name: s.Name, sec: s, off: off, size: end - off, kind: anonymous, obj: o})
	}
}

// cold joins split-off parts to their functions. gcc names them FUNC.cold,
// or FUNC.cold.N where N numbers clones.
func (o *object) cold() {
	byName := map[string][]*item{}
	for _, it := range o.items {
		if it.kind == function {
			byName[it.name] = append(byName[it.name], it)
		}
	}
	for _, it := range o.items {
		i := strings.LastIndex(it.name, ".cold")
		if it.kind != function || i < 0 {
			continue
		}
		parents := byName[it.name[:i]]
		if len(parents) != 1 {
			parents = o.callersOf(it, parents)
		}
		if len(parents) == 1 {
			it.parent = parents[0]
			parents[0].parts = append(parents[0].parts, it)
		}
	}
}

// callersOf narrows candidates to the functions that jump to part.
func (o *object) callersOf(part *item, candidates []*item) (out []*item) {
	for _, c := range candidates {
		for _, r := range c.relocs() {
			if t, err := o.resolve(c, r); err == nil && t.item == part {
				out = append(out, c)
				break
			}
		}
	}
	return out
}

// in finds the item at an offset of a section.
func (o *object) in(s *elfobj.Section, off uint64) *item {
	for _, it := range o.bySec[s] {
		if off >= it.off && (off < it.end() || off == it.off) {
			return it
		}
	}
	return nil
}
