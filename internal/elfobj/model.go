// SPDX-License-Identifier: Apache-2.0

// Package elfobj is a relocatable x86-64 ELF object as data that can be
// changed: sections with their relocations, and symbols, linked by pointers.
// Indices, string tables and relocation sections exist only in the file.
package elfobj

import "debug/elf"

// FlagLivepatch marks a relocation section that the livepatch core applies
// (SHF_RELA_LIVEPATCH, Documentation/livepatch/module-elf-format.rst, section 3).
const FlagLivepatch elf.SectionFlag = 0x00100000

// ShnLivepatch is the section index of a symbol that the livepatch core
// resolves (SHN_LIVEPATCH, same document, section 4).
const ShnLivepatch elf.SectionIndex = 0xff20

// File is one object.
type File struct {
	Sections []*Section
	// Symbols holds no null symbol.
	Symbols []*Symbol
}

// Section is a section that is not itself a symbol table, a string table or
// an ordinary relocation section.
type Section struct {
	Name    string
	Type    elf.SectionType
	Flags   elf.SectionFlag
	Align   uint64
	Entsize uint64
	// Size in bytes; equal to len(Data) unless Type is SHT_NOBITS.
	Size uint64
	Data []byte
	// Relocs are what the linker or loader writes into Data, by offset.
	Relocs []Reloc
	// LinkTo is the section an SHF_LINK_ORDER section follows.
	LinkTo *Section
	// Target is set for a livepatch relocation section only: Relocs then
	// apply to Target instead of to the section itself.
	Target *Section
}

// Symbol is one symbol.
type Symbol struct {
	Name string
	Type elf.SymType
	Bind elf.SymBind
	// Other is the visibility byte.
	Other byte
	// Section holds the symbol, or is nil: then Shndx says what it is.
	Section *Section
	Shndx   elf.SectionIndex
	Value   uint64
	Size    uint64
}

// Reloc is one relocation with addend.
type Reloc struct {
	Off    uint64
	Type   elf.R_X86_64
	Sym    *Symbol
	Addend int64
}

// Undefined reports whether the symbol is to be found elsewhere.
func (s *Symbol) Undefined() bool { return s.Section == nil && s.Shndx == elf.SHN_UNDEF }

// IsSection reports whether the symbol only names its section.
func (s *Symbol) IsSection() bool { return s.Type == elf.STT_SECTION }

// Contains reports whether off, an offset in the symbol's section, is in it.
// A symbol without a size contains its first byte.
func (s *Symbol) Contains(off uint64) bool {
	return off >= s.Value && (off < s.Value+s.Size || off == s.Value)
}

// Alloc reports whether the section is part of the loaded image.
func (s *Section) Alloc() bool { return s.Flags&elf.SHF_ALLOC != 0 }

// Exec reports whether the section holds code.
func (s *Section) Exec() bool { return s.Flags&elf.SHF_EXECINSTR != 0 }

// Writable reports whether the section holds data that may be written.
func (s *Section) Writable() bool { return s.Flags&elf.SHF_WRITE != 0 }

// Strings reports whether the section holds mergeable zero-terminated strings.
func (s *Section) Strings() bool {
	return s.Flags&elf.SHF_MERGE != 0 && s.Flags&elf.SHF_STRINGS != 0
}

// RelocsIn returns the relocations at offsets in [from, to). Relocs has to be
// sorted by offset, as Read leaves it.
func (s *Section) RelocsIn(from, to uint64) []Reloc {
	lo := lowerBound(s.Relocs, from)
	hi := lo
	for hi < len(s.Relocs) && s.Relocs[hi].Off < to {
		hi++
	}
	return s.Relocs[lo:hi]
}

func lowerBound(rs []Reloc, off uint64) int {
	lo, hi := 0, len(rs)
	for lo < hi {
		mid := (lo + hi) / 2
		if rs[mid].Off < off {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return lo
}

// Section finds the first section of that name, or nil.
func (f *File) Section(name string) *Section {
	for _, s := range f.Sections {
		if s.Name == name {
			return s
		}
	}
	return nil
}

// SectionSymbol returns the symbol that names s, made if there is none.
func (f *File) SectionSymbol(s *Section) *Symbol {
	for _, y := range f.Symbols {
		if y.Section == s && y.IsSection() {
			return y
		}
	}
	y := &Symbol{Type: elf.STT_SECTION, Bind: elf.STB_LOCAL, Section: s}
	f.Symbols = append(f.Symbols, y)
	return y
}

// CString reads the zero-terminated string at off; ok is false if off is
// outside or the string has no end.
func (s *Section) CString(off uint64) (str string, ok bool) {
	if off >= uint64(len(s.Data)) {
		return "", false
	}
	for i := off; i < uint64(len(s.Data)); i++ {
		if s.Data[i] == 0 {
			return string(s.Data[off:i]), true
		}
	}
	return "", false
}

// Width is the number of bytes a relocation of type t writes; 0 if unknown.
func Width(t elf.R_X86_64) uint64 {
	switch t {
	case elf.R_X86_64_64, elf.R_X86_64_PC64:
		return 8
	case elf.R_X86_64_PC32, elf.R_X86_64_PLT32, elf.R_X86_64_32, elf.R_X86_64_32S:
		return 4
	case elf.R_X86_64_16, elf.R_X86_64_PC16:
		return 2
	case elf.R_X86_64_8, elf.R_X86_64_PC8:
		return 1
	}
	return 0
}

// PCRelative reports whether the relocation's value is relative to its place.
func PCRelative(t elf.R_X86_64) bool {
	switch t {
	case elf.R_X86_64_PC8, elf.R_X86_64_PC16, elf.R_X86_64_PC32, elf.R_X86_64_PLT32, elf.R_X86_64_PC64:
		return true
	}
	return false
}
