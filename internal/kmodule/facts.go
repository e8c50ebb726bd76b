// SPDX-License-Identifier: Apache-2.0

package kmodule

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
)

// Import is a symbol that a module needs of the kernel or of other modules.
type Import struct {
	Name string
	// CRC is the checksum of the interface that it was compiled with
	// (CONFIG_MODVERSIONS); HasCRC says whether it has one.
	CRC    uint32
	HasCRC bool
	// Weak symbols may stay open.
	Weak bool
}

// Facts are what a module's ELF file says besides .modinfo.
type Facts struct {
	// BuildID is in hex; empty without one.
	BuildID string
	// Compiler is the first line of .comment.
	Compiler string
	Imports  []Import
	// Exports are the symbols that it exports, with their checksums (0 without
	// CONFIG_MODVERSIONS).
	Exports map[string]uint32
	// Private is the room in bytes that it asks for behind each network device
	// (struct net_device), as far as its code says so in a constant; 0 if unknown.
	Private uint64
}

// Imported gives the import of that name; nil if there is none.
func (f *Facts) Imported(name string) *Import {
	for i := range f.Imports {
		if f.Imports[i].Name == name {
			return &f.Imports[i]
		}
	}
	return nil
}

// Examine reads the facts of an uncompressed module for x86-64. It returns an error
// that wraps ErrNotModule for anything else, and never panics.
func Examine(image []byte) (facts *Facts, err error) {
	defer func() {
		if p := recover(); p != nil {
			facts, err = nil, fmt.Errorf("reading ELF: %v: %w", p, ErrNotModule)
		}
	}()
	f, err := elf.NewFile(bytes.NewReader(image))
	if err != nil {
		return nil, fmt.Errorf("reading ELF: %w: %w", err, ErrNotModule)
	}
	if f.Type != elf.ET_REL || f.Machine != elf.EM_X86_64 {
		return nil, fmt.Errorf("reading ELF: %v for %v: %w", f.Type, f.Machine, ErrNotModule)
	}
	for _, s := range f.Sections {
		if s.Type != elf.SHT_NOBITS && s.FileSize > uint64(len(image)) {
			return nil, fmt.Errorf("reading ELF: the section %s is larger than the file: %w", s.Name, ErrNotModule)
		}
	}
	sections := map[elf.SectionIndex][]byte{}
	data := func(i elf.SectionIndex) []byte {
		if sections[i] == nil {
			sections[i] = content(f, f.Sections[i].Name)
		}
		return sections[i]
	}
	facts = &Facts{Exports: map[string]uint32{}, BuildID: NoteBuildID(content(f, ".note.gnu.build-id"))}
	comment, _, _ := bytes.Cut(bytes.TrimLeft(content(f, ".comment"), "\x00"), []byte{0})
	facts.Compiler = string(comment)
	syms, err := f.Symbols()
	if err != nil && !errors.Is(err, elf.ErrNoSymbols) {
		return nil, fmt.Errorf("reading symbols: %w: %w", err, ErrNotModule)
	}
	crcs := versions(content(f, "__versions"))
	for _, s := range syms {
		if s.Section == elf.SHN_UNDEF && s.Name != "" {
			crc, ok := crcs[s.Name]
			facts.Imports = append(facts.Imports, Import{s.Name, crc, ok, elf.ST_BIND(s.Info) == elf.STB_WEAK})
		}
		// __ksymtab_NAME is where an export is announced, __crc_NAME its checksum, in
		// a section of those since 5.19 (include/linux/export-internal.h).
		if name, ok := strings.CutPrefix(s.Name, "__ksymtab_"); ok && s.Section != elf.SHN_UNDEF {
			facts.Exports[name] = max(facts.Exports[name], 0)
		}
		if name, ok := strings.CutPrefix(s.Name, "__crc_"); ok && int(s.Section) < len(f.Sections) {
			if b := data(s.Section); s.Value <= uint64(len(b)) && len(b[s.Value:]) >= 4 {
				facts.Exports[name] = binary.LittleEndian.Uint32(b[s.Value:])
			}
		}
	}
	facts.Private = privateSize(f, syms)
	return facts, nil
}

func content(f *elf.File, section string) []byte {
	s := f.Section(section)
	if s == nil || s.Type == elf.SHT_NOBITS {
		return nil
	}
	b, err := s.Data()
	if err != nil {
		return nil
	}
	return b
}

// versions reads the section __versions: an unsigned long and the name, 64 bytes
// together (struct modversion_info, include/linux/module.h).
func versions(b []byte) map[string]uint32 {
	const size, nameAt = 64, 8
	out := map[string]uint32{}
	for ; len(b) >= size; b = b[size:] {
		name, _, _ := bytes.Cut(b[nameAt:size], []byte{0})
		out[string(name)] = binary.LittleEndian.Uint32(b)
	}
	return out
}

// NoteBuildID finds the build id in the content of a note section, in hex;
// empty if there is none (ELF gABI, note section: name size, description size,
// type, then both padded to four bytes; NT_GNU_BUILD_ID is 3).
func NoteBuildID(b []byte) string {
	const head, buildID = 12, 3
	pad := func(n uint32) uint64 { return (uint64(n) + 3) &^ 3 }
	for len(b) >= head {
		le := binary.LittleEndian
		nameLen, descLen, kind := le.Uint32(b), le.Uint32(b[4:]), le.Uint32(b[8:])
		b = b[head:]
		if pad(nameLen) > uint64(len(b)) {
			return ""
		}
		name := b[:nameLen]
		b = b[pad(nameLen):]
		if uint64(descLen) > uint64(len(b)) {
			return ""
		}
		if kind == buildID && string(name) == "GNU\x00" {
			return hex.EncodeToString(b[:descLen])
		}
		b = b[min(pad(descLen), uint64(len(b))):]
	}
	return ""
}
