// SPDX-License-Identifier: Apache-2.0

package elfobj

import (
	"bytes"
	"cmp"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
)

// ErrFormat is matched by every error about the bytes themselves.
var ErrFormat = errors.New("not a readable x86-64 relocatable object")

const (
	relaSize = 24
	symSize  = 24
)

// ReadFile reads the object at path.
func ReadFile(path string) (*File, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	f, err := Read(data)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", path, err)
	}
	return f, nil
}

// Read parses data. The result shares its memory. Bytes that are not such an
// object give an error that matches ErrFormat, never a panic.
func Read(data []byte) (*File, error) { return read(data, false) }

// ReadCode is Read without the debugging information, which is most of an object
// and has most of its relocations. What is written of it lacks it too.
func ReadCode(data []byte) (*File, error) { return read(data, true) }

func read(data []byte, codeOnly bool) (*File, error) {
	ef, err := elf.NewFile(bytes.NewReader(data))
	if err != nil {
		return nil, fmt.Errorf("%w: %v", ErrFormat, err)
	}
	if ef.Type != elf.ET_REL || ef.Machine != elf.EM_X86_64 || ef.Class != elf.ELFCLASS64 || ef.Data != elf.ELFDATA2LSB {
		return nil, fmt.Errorf("%w: type %v, machine %v", ErrFormat, ef.Type, ef.Machine)
	}
	r := &reader{ef: ef, data: data, byIndex: make([]*Section, len(ef.Sections)), codeOnly: codeOnly}
	if err := r.sections(); err != nil {
		return nil, err
	}
	if err := r.symbols(); err != nil {
		return nil, err
	}
	if err := r.relocs(); err != nil {
		return nil, err
	}
	return &r.out, nil
}

type reader struct {
	ef      *elf.File
	data    []byte
	byIndex []*Section
	syms    []*Symbol // by index in the file, nil at 0
	out     File

	codeOnly bool
}

// skips reports debugging information that is not wanted.
func (r *reader) skips(s *elf.Section) bool {
	return r.codeOnly && s.Flags&elf.SHF_ALLOC == 0 && strings.HasPrefix(s.Name, ".debug_")
}

func bad(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrFormat, fmt.Sprintf(format, args...))
}

func (r *reader) raw(s *elf.Section) ([]byte, error) {
	if s.Type == elf.SHT_NOBITS || s.Type == elf.SHT_NULL {
		return nil, nil
	}
	end := s.Offset + s.FileSize
	if end < s.Offset || end > uint64(len(r.data)) {
		return nil, bad("section %q lies outside the file", s.Name)
	}
	return r.data[s.Offset:end:end], nil
}

// derived reports whether the writer makes the section anew.
func derived(s *elf.Section) bool {
	switch s.Type {
	case elf.SHT_NULL, elf.SHT_SYMTAB, elf.SHT_SYMTAB_SHNDX:
		return true
	case elf.SHT_STRTAB:
		return s.Flags&elf.SHF_ALLOC == 0
	case elf.SHT_RELA:
		return s.Flags&FlagLivepatch == 0
	}
	return false
}

func (r *reader) sections() error {
	for i, s := range r.ef.Sections {
		if s.Type == elf.SHT_REL {
			return bad("section %q has relocations without addends", s.Name)
		}
		if s.Flags&elf.SHF_COMPRESSED != 0 {
			return bad("section %q is compressed", s.Name)
		}
		if derived(s) || r.skips(s) {
			continue
		}
		data, err := r.raw(s)
		if err != nil {
			return err
		}
		t := &Section{Name: s.Name, Type: s.Type, Flags: s.Flags, Align: s.Addralign, Entsize: s.Entsize, Size: s.Size, Data: data}
		if s.Type != elf.SHT_NOBITS && t.Size != uint64(len(data)) {
			return bad("section %q has a size of %d, but %d bytes", s.Name, s.Size, len(data))
		}
		if a := t.Align; a&(a-1) != 0 || a > 1<<24 {
			return bad("section %q has alignment %d", s.Name, a)
		}
		r.byIndex[i] = t
		r.out.Sections = append(r.out.Sections, t)
	}
	for i, s := range r.ef.Sections {
		if t := r.byIndex[i]; t != nil && s.Flags&elf.SHF_LINK_ORDER != 0 && int(s.Link) < len(r.byIndex) {
			t.LinkTo = r.byIndex[s.Link]
		}
	}
	return nil
}

func (r *reader) symbols() error {
	var tab *elf.Section
	var xindex []byte
	for _, s := range r.ef.Sections {
		if s.Type == elf.SHT_SYMTAB {
			tab = s
		}
	}
	if tab == nil {
		return nil
	}
	for _, s := range r.ef.Sections {
		if s.Type == elf.SHT_SYMTAB_SHNDX {
			var err error
			if xindex, err = r.raw(s); err != nil {
				return err
			}
		}
	}
	data, err := r.raw(tab)
	if err != nil {
		return err
	}
	if int(tab.Link) >= len(r.ef.Sections) {
		return bad("symbol table without strings")
	}
	strs, err := r.raw(r.ef.Sections[tab.Link])
	if err != nil {
		return err
	}
	names := string(strs) // of which each name is a part
	r.syms = make([]*Symbol, len(data)/symSize)
	all := make([]Symbol, len(r.syms))
	r.out.Symbols = make([]*Symbol, 0, len(r.syms))
	for i := 1; i < len(r.syms); i++ {
		e := data[i*symSize:]
		y := &all[i]
		*y = Symbol{
			Type: elf.ST_TYPE(e[4]), Bind: elf.ST_BIND(e[4]), Other: e[5],
			Shndx: elf.SectionIndex(binary.LittleEndian.Uint16(e[6:])),
			Value: binary.LittleEndian.Uint64(e[8:]), Size: binary.LittleEndian.Uint64(e[16:]),
		}
		if n := binary.LittleEndian.Uint32(e); n != 0 {
			end := -1
			if uint64(n) < uint64(len(names)) {
				end = strings.IndexByte(names[n:], 0)
			}
			if end < 0 {
				return bad("symbol %d has no readable name", i)
			}
			y.Name = names[n:][:end]
		}
		if err := r.place(y, i, xindex); err != nil {
			return err
		}
		r.syms[i] = y
		if y.IsSection() && y.Section == nil {
			continue // names a symbol table or the like
		}
		r.out.Symbols = append(r.out.Symbols, y)
	}
	return nil
}

func (r *reader) place(y *Symbol, i int, xindex []byte) error {
	n := int(y.Shndx)
	if y.Shndx == elf.SHN_XINDEX {
		if len(xindex) < 4*i+4 {
			return bad("symbol %d has an extended index without a table", i)
		}
		n = int(binary.LittleEndian.Uint32(xindex[4*i:]))
	} else if y.Shndx == elf.SHN_UNDEF || y.Shndx >= elf.SHN_LORESERVE {
		return nil
	}
	if n >= len(r.byIndex) {
		return bad("symbol %q is in section %d of %d", y.Name, n, len(r.byIndex))
	}
	y.Shndx, y.Section = elf.SHN_UNDEF, r.byIndex[n]
	if s := y.Section; s != nil && !y.IsSection() && (y.Value > s.Size || y.Size > s.Size-y.Value) && y.Type != elf.STT_NOTYPE {
		return bad("symbol %q reaches beyond section %q", y.Name, s.Name)
	}
	return nil
}

func (r *reader) relocs() error {
	for i, s := range r.ef.Sections {
		if s.Type != elf.SHT_RELA {
			continue
		}
		if int(s.Info) < len(r.byIndex) && r.skips(r.ef.Sections[s.Info]) {
			continue
		}
		if int(s.Info) >= len(r.byIndex) || (r.byIndex[s.Info] == nil) {
			return bad("relocation section %q has no target", s.Name)
		}
		target, holder := r.byIndex[s.Info], r.byIndex[s.Info]
		if klp := r.byIndex[i]; klp != nil {
			klp.Target, holder = target, klp
		}
		data, err := r.raw(s)
		if err != nil {
			return err
		}
		holder.Relocs = slices.Grow(holder.Relocs, len(data)/relaSize)
		for ; len(data) >= relaSize; data = data[relaSize:] {
			info := binary.LittleEndian.Uint64(data[8:])
			rel := Reloc{Off: binary.LittleEndian.Uint64(data), Type: elf.R_X86_64(uint32(info)), Addend: int64(binary.LittleEndian.Uint64(data[16:]))}
			if n := info >> 32; n >= uint64(len(r.syms)) {
				return bad("relocation in %q of symbol %d of %d", s.Name, n, len(r.syms))
			} else {
				rel.Sym = r.syms[n]
			}
			w := Width(rel.Type)
			if target.Alloc() && (rel.Off > target.Size || w > target.Size-rel.Off) {
				return bad("relocation beyond the end of %q", target.Name)
			}
			if rel.Type == elf.R_X86_64_NONE {
				continue // left by objtool where it took an instruction away
			}
			if rel.Sym == nil {
				return bad("relocation in %q without a symbol", s.Name)
			}
			holder.Relocs = append(holder.Relocs, rel)
		}
		if holder == target {
			byOffset := func(a, b Reloc) int { return cmp.Compare(a.Off, b.Off) }
			if !slices.IsSortedFunc(holder.Relocs, byOffset) {
				slices.SortStableFunc(holder.Relocs, byOffset)
			}
		}
	}
	return nil
}
