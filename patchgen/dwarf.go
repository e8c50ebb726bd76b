// SPDX-License-Identifier: Apache-2.0

package patchgen

import (
	"bytes"
	"debug/dwarf"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
)

// readDWARF reads the debugging information of an object: the part of it that
// names, places and describes things, with the relocations that it needs. The
// library would carry out those of every section, one by one by reflection, which
// takes longer than the whole comparison.
func readDWARF(obj []byte) (*dwarf.Data, error) {
	f, err := elf.NewFile(bytes.NewReader(obj))
	if err != nil {
		return nil, err
	}
	if !plainDWARF(f) {
		return f.DWARF()
	}
	found := map[string][]byte{".debug_abbrev": nil, ".debug_info": nil, ".debug_line": nil, ".debug_str": nil, ".debug_line_str": nil}
	syms, err := sectionBytes(obj, f.SectionByType(elf.SHT_SYMTAB))
	if err != nil {
		return nil, err
	}
	for i, s := range f.Sections {
		if _, ok := found[s.Name]; !ok || found[s.Name] != nil {
			continue
		}
		b, err := sectionBytes(obj, s)
		if err != nil {
			return nil, err
		}
		for _, r := range f.Sections {
			if r.Type != elf.SHT_RELA || int(r.Info) != i {
				continue
			}
			rela, err := sectionBytes(obj, r)
			if err != nil {
				return nil, err
			}
			b = bytes.Clone(b)
			relocateDWARF(b, rela, syms)
		}
		found[s.Name] = b
	}
	d, err := dwarf.New(found[".debug_abbrev"], nil, nil, found[".debug_info"], found[".debug_line"], nil, nil, found[".debug_str"])
	if err != nil {
		return nil, err
	}
	return d, d.AddSection(".debug_line_str", found[".debug_line_str"])
}

// plainDWARF reports debugging information as gcc writes it if not asked for
// anything else: uncompressed or in the way of the format, and in one piece.
func plainDWARF(f *elf.File) bool {
	pieces := 0
	for _, s := range f.Sections {
		if s.Name == ".debug_types" || strings.HasPrefix(s.Name, ".zdebug_") {
			return false
		}
		if s.Name == ".debug_info" {
			pieces++
		}
	}
	return pieces <= 1
}

// sectionBytes are the bytes of a section where they lie in the object, unless
// they are compressed.
func sectionBytes(obj []byte, s *elf.Section) ([]byte, error) {
	if s == nil || s.Type == elf.SHT_NOBITS {
		return nil, nil
	}
	if end := s.Offset + s.FileSize; s.Flags&elf.SHF_COMPRESSED == 0 && end >= s.Offset && end <= uint64(len(obj)) {
		return obj[s.Offset:end:end], nil
	}
	b, err := s.Data()
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", s.Name, err)
	}
	return b, nil
}

// relocateDWARF carries out relocations of the two kinds that debugging
// information needs; any other is left alone, as are places outside of the data.
func relocateDWARF(data, rela, syms []byte) {
	const relaSize, symSize = 24, elf.Sym64Size
	for ; len(rela) >= relaSize; rela = rela[relaSize:] {
		off, info := binary.LittleEndian.Uint64(rela), binary.LittleEndian.Uint64(rela[8:])
		sym := info >> 32
		if sym >= uint64(len(syms)/symSize) || off >= uint64(len(data)) {
			continue
		}
		to := data[off:]
		val := binary.LittleEndian.Uint64(syms[sym*symSize+8:]) + binary.LittleEndian.Uint64(rela[16:])
		switch t := elf.R_X86_64(uint32(info)); {
		case t == elf.R_X86_64_64 && len(to) >= 8:
			binary.LittleEndian.PutUint64(to, val)
		case t == elf.R_X86_64_32 && len(to) >= 4:
			binary.LittleEndian.PutUint32(to, uint32(val))
		}
	}
}

// entryReader reads DWARF entries. The library's reader never ends where the
// last entry is cut off, so that entries are counted: each has a byte at least.
type entryReader struct {
	*dwarf.Reader
	left int
}

// readEntries begins at the first entry of an object of size bytes.
func readEntries(d *dwarf.Data, size int) *entryReader {
	return &entryReader{d.Reader(), size}
}

// Next gives the next entry, or nil at the end.
func (r *entryReader) Next() (*dwarf.Entry, error) {
	if r.left--; r.left < 0 {
		return nil, errors.New("the debugging information has no end")
	}
	return r.Reader.Next()
}
