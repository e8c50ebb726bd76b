// SPDX-License-Identifier: Apache-2.0

package kpatchtest

import (
	"debug/elf"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"

	"github.com/lupatch/lupatch/internal/elfobj"
)

// Driver describes the file of a module that is no livepatch. Its code is empty.
type Driver struct {
	Name, Release string
	// Info are more entries of its .modinfo, such as "alias=pci:v00008086*".
	Info []string
	// Imports are the symbols that it needs, with their checksums; Exports those that
	// it gives.
	Imports map[string]uint32
	Exports []string
	// Salt tells two builds of it apart.
	Salt string
}

// Image writes the file. Its build id is BuildID(d.Name + d.Salt).
func (d Driver) Image() []byte {
	f := &elfobj.File{}
	info := fmt.Sprintf("name=%s\x00vermagic=%s SMP preempt mod_unload modversions \x00", d.Name, d.Release)
	for _, i := range d.Info {
		info += i + "\x00"
	}
	var crcs []byte
	for _, name := range slices.Sorted(maps.Keys(d.Imports)) {
		entry := make([]byte, 64) // struct modversion_info
		binary.LittleEndian.PutUint32(entry, d.Imports[name])
		copy(entry[8:], name)
		crcs = append(crcs, entry...)
		f.Symbols = append(f.Symbols, &elfobj.Symbol{Name: name, Bind: elf.STB_GLOBAL})
	}
	for _, s := range sections(d.Name, d.Release, nil) {
		data := s.data
		switch s.name {
		case ".modinfo":
			data = []byte(info)
		case ".note.gnu.build-id":
			data = buildIDNote(BuildID(d.Name + d.Salt))
		}
		f.Sections = append(f.Sections, &elfobj.Section{Name: s.name, Type: elf.SectionType(s.kind), Flags: elf.SectionFlag(s.flags), Align: 8, Size: uint64(len(data)), Data: data})
	}
	f.Sections = append(f.Sections, &elfobj.Section{Name: "__versions", Type: elf.SHT_PROGBITS, Flags: elf.SHF_ALLOC, Align: 32, Size: uint64(len(crcs)), Data: crcs})
	for _, name := range d.Exports {
		f.Symbols = append(f.Symbols, &elfobj.Symbol{Name: "__ksymtab_" + name, Section: f.Sections[0]})
	}
	b, err := f.Bytes()
	if err != nil {
		panic(err)
	}
	return b
}
