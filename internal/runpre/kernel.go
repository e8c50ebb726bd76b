// SPDX-License-Identifier: Apache-2.0

package runpre

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"fmt"

	"github.com/lupatch/lupatch/internal/elfobj"
	"github.com/lupatch/lupatch/internal/kallsyms"
)

// Memory reads a linked kernel image by virtual address.
type Memory interface {
	ReadAt(addr uint64, n int) ([]byte, error)
}

// Kernel holds the object of a translation unit, compiled with unaltered
// flags, against the linked image. Each of its sections is placed by a vote of
// its symbols: a name alone means nothing where 13 in 100 data symbols have
// namesakes.
func Kernel(obj *elfobj.File, mem Memory, syms *kallsyms.Table) (*Result, error) {
	if err := sound(obj); err != nil {
		return nil, err
	}
	k := &kernel{
		mem: mem, syms: syms, bases: map[*elfobj.Section]uint64{},
		res: &Result{Unit: "vmlinux", places: map[string]place{}, extern: map[string]uint64{}, shared: ambiguousNames(obj)},
	}
	k.vote(obj)
	for _, fn := range functions(obj) {
		if err := k.function(fn); err != nil {
			return nil, err
		}
	}
	for _, y := range obj.Symbols {
		if base, ok := k.bases[y.Section]; ok && named(y) {
			k.res.places[y.Name] = place{addr: base + y.Value}
		}
	}
	return k.res, nil
}

type kernel struct {
	mem   Memory
	syms  *kallsyms.Table
	bases map[*elfobj.Section]uint64
	res   *Result
}

func (k *kernel) vote(obj *elfobj.File) {
	votes := map[*elfobj.Section]map[uint64]int{}
	for _, y := range obj.Symbols {
		if !named(y) || !y.Section.Alloc() || y.Bind == elf.STB_WEAK {
			continue
		}
		for _, s := range k.syms.Lookup(y.Name) {
			if s.Module != "" {
				continue
			}
			if votes[y.Section] == nil {
				votes[y.Section] = map[uint64]int{}
			}
			votes[y.Section][s.Addr-y.Value]++
		}
	}
	for s, v := range votes {
		// Code first: what it refers to places data better than names do,
		// of which whole sections (.data.once, __dyndbg) may be ambiguous.
		if base, _, only := majority(v); s.Exec() && only {
			k.bases[s] = base
		}
	}
	for s, v := range k.references(obj) {
		if base, _, only := majority(v); only {
			k.bases[s] = base
		}
	}
	for s, v := range votes {
		if base, _, only := majority(v); only && !s.Exec() {
			if _, known := k.bases[s]; !known {
				k.bases[s] = base
			}
		}
	}
}

// references counts where the image's code refers to for each section of data.
func (k *kernel) references(obj *elfobj.File) map[*elfobj.Section]map[uint64]int {
	votes := map[*elfobj.Section]map[uint64]int{}
	for _, fn := range functions(obj) {
		base, ok := k.bases[fn.Section]
		if !ok || !k.here(fn.Name, base+fn.Value) {
			continue
		}
		image, err := k.mem.ReadAt(base+fn.Value, int(fn.Size))
		if err != nil {
			continue // reported when the function is compared
		}
		for _, r := range fn.Section.RelocsIn(fn.Value, fn.Value+fn.Size) {
			s := r.Sym.Section
			if s == nil || s.Exec() || s.Flags&elf.SHF_MERGE != 0 || r.Sym.Bind == elf.STB_WEAK {
				continue
			}
			if val, ok := symbolValue(r, base+r.Off, image[r.Off-fn.Value:]); ok {
				if votes[s] == nil {
					votes[s] = map[uint64]int{}
				}
				votes[s][val-r.Sym.Value]++
			}
		}
	}
	return votes
}

func (k *kernel) function(fn *elfobj.Symbol) error {
	base, ok := k.bases[fn.Section]
	addr := base + fn.Value
	if !ok || !k.here(fn.Name, addr) {
		if fn.Bind == elf.STB_WEAK && len(k.syms.Lookup(fn.Name)) > 0 {
			k.res.Overridden = append(k.res.Overridden, fn.Name)
			return nil
		}
		k.res.Functions++
		k.mismatch(fn, 0, "the function is not where its neighbours say it should be, or not in the image at all")
		return nil
	}
	k.res.Functions++
	image, err := k.mem.ReadAt(addr, int(fn.Size))
	if err != nil {
		return fmt.Errorf("reading %s at %#x out of the image: %w", fn.Name, addr, err)
	}
	masked := bytes.Clone(image)
	rels := fn.Section.RelocsIn(fn.Value, fn.Value+fn.Size)
	for _, r := range rels {
		at := r.Off - fn.Value
		clear(masked[at:min(at+elfobj.Width(r.Type), fn.Size)])
	}
	if d := firstDiff(code(fn.Section, fn.Value, fn.Size), masked); d >= 0 {
		k.mismatch(fn, uint64(d), "the code differs")
		return nil
	}
	if next, ok := k.syms.Next(addr); ok && next < addr+fn.Size {
		k.mismatch(fn, next-addr, "the shipped function is shorter")
		return nil
	}
	for _, r := range rels {
		if what := k.reloc(r, addr-fn.Value+r.Off, image[r.Off-fn.Value:]); what != "" {
			k.mismatch(fn, r.Off-fn.Value, what)
			return nil
		}
	}
	k.res.Verified++
	return nil
}

func (k *kernel) mismatch(fn *elfobj.Symbol, off uint64, what string) {
	k.res.Mismatches = append(k.res.Mismatches, Mismatch{Function: fn.Name, Offset: off, What: what})
}

func (k *kernel) here(name string, addr uint64) bool {
	for _, s := range k.syms.Lookup(name) {
		if s.Module == "" && s.Addr == addr {
			return true
		}
	}
	return false
}

// symbolValue undoes a relocation: what value did the linker see?
func symbolValue(r elfobj.Reloc, at uint64, field []byte) (uint64, bool) {
	var v uint64
	switch w := elfobj.Width(r.Type); {
	case uint64(len(field)) < w || w < 4:
		return 0, false
	case w == 8:
		v = binary.LittleEndian.Uint64(field)
	case r.Type == elf.R_X86_64_32:
		v = uint64(binary.LittleEndian.Uint32(field))
	default:
		v = uint64(int64(int32(binary.LittleEndian.Uint32(field))))
	}
	if elfobj.PCRelative(r.Type) {
		v += at
	}
	return v - uint64(r.Addend), true
}

// reloc checks that a field holds what the object asks for. Sections without
// symbols of their own are placed by their first use and held to it.
func (k *kernel) reloc(r elfobj.Reloc, at uint64, field []byte) string {
	val, ok := symbolValue(r, at, field)
	if !ok {
		return fmt.Sprintf("relocation type %v is not understood", r.Type)
	}
	y := r.Sym
	if y.Section == nil {
		return k.outside(y.Name, val)
	}
	val -= y.Value
	if y.Section.Flags&elf.SHF_MERGE != 0 {
		return k.merged(r, val+y.Value)
	}
	if y.Bind == elf.STB_WEAK {
		return k.outside(y.Name, val+y.Value)
	}
	base, ok := k.bases[y.Section]
	if !ok {
		k.bases[y.Section] = val
		return ""
	}
	if base != val {
		return fmt.Sprintf("it refers to section %s at %#x, which elsewhere is at %#x", y.Section.Name, val, base)
	}
	return ""
}

// merged compares strings and constants, which the linker moves, by content.
func (k *kernel) merged(r elfobj.Reloc, val uint64) string {
	off := int64(r.Sym.Value) + r.Addend
	if elfobj.PCRelative(r.Type) {
		off += 4
	}
	addr := val + uint64(off) - r.Sym.Value
	s := r.Sym.Section
	want := []byte(nil)
	if s.Strings() {
		str, ok := s.CString(uint64(off))
		if !ok {
			return "it refers beyond the end of " + s.Name
		}
		want = append([]byte(str), 0)
	} else if n := int64(s.Entsize); off >= 0 && off+n <= int64(len(s.Data)) {
		want = s.Data[off : off+n]
	}
	got, err := k.mem.ReadAt(addr, len(want))
	if err != nil || !bytes.Equal(got, want) {
		return fmt.Sprintf("the constant %q differs", want)
	}
	return ""
}

func (k *kernel) outside(name string, val uint64) string {
	if prev, ok := k.res.extern[name]; ok {
		if prev != val {
			return fmt.Sprintf("%s is at %#x here and at %#x elsewhere", name, val, prev)
		}
		return ""
	}
	all := k.syms.Lookup(name)
	found := len(all) == 0
	for _, s := range all {
		found = found || s.Module == "" && s.Addr == val
	}
	if !found {
		return fmt.Sprintf("it refers to something else than %s", name)
	}
	k.res.extern[name] = val
	return ""
}
