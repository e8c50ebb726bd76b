// SPDX-License-Identifier: Apache-2.0

package elfobj

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"fmt"
)

const ehdrSize, shdrSize = 64, 64

// Bytes lays the object out as a file. The same object always gives the same
// bytes.
func (f *File) Bytes() ([]byte, error) {
	w := &writer{
		index: map[*Section]int{}, symIndex: map[*Symbol]int{},
		shstr: newStrtab(), strs: newStrtab(),
	}
	w.body.Write(make([]byte, ehdrSize))
	w.heads = append(w.heads, elf.Section64{})
	for i, s := range f.Sections {
		w.index[s] = i + 1
	}
	symtab, err := w.symtab(f)
	if err != nil {
		return nil, err
	}
	relas := 0
	for _, s := range f.Sections {
		if s.Target == nil && len(s.Relocs) > 0 {
			relas++
		}
	}
	w.symtabIndex = len(f.Sections) + relas + 1
	for _, s := range f.Sections {
		if err := w.section(s); err != nil {
			return nil, err
		}
	}
	for _, s := range f.Sections {
		if s.Target != nil || len(s.Relocs) == 0 {
			continue
		}
		data, err := w.rela(s)
		if err != nil {
			return nil, err
		}
		w.put(elf.Section64{
			Name: w.shstr.add(".rela" + s.Name), Type: uint32(elf.SHT_RELA), Flags: uint64(elf.SHF_INFO_LINK),
			Link: uint32(w.symtabIndex), Info: uint32(w.index[s]), Addralign: 8, Entsize: relaSize,
		}, data)
	}
	w.put(elf.Section64{
		Name: w.shstr.add(".symtab"), Type: uint32(elf.SHT_SYMTAB), Link: uint32(w.symtabIndex + 1),
		Info: uint32(w.locals), Addralign: 8, Entsize: symSize,
	}, symtab)
	w.put(elf.Section64{Name: w.shstr.add(".strtab"), Type: uint32(elf.SHT_STRTAB), Addralign: 1}, w.strs.buf.Bytes())
	name := w.shstr.add(".shstrtab")
	w.put(elf.Section64{Name: name, Type: uint32(elf.SHT_STRTAB), Addralign: 1}, w.shstr.buf.Bytes())
	return w.finish()
}

type writer struct {
	body        bytes.Buffer
	heads       []elf.Section64
	index       map[*Section]int
	symIndex    map[*Symbol]int
	symtabIndex int
	locals      int
	shstr, strs *strtab
}

func (w *writer) pad(align uint64) {
	for align > 1 && uint64(w.body.Len())%align != 0 {
		w.body.WriteByte(0)
	}
}

func (w *writer) put(h elf.Section64, data []byte) {
	w.pad(h.Addralign)
	h.Off = uint64(w.body.Len())
	if elf.SectionType(h.Type) != elf.SHT_NOBITS {
		h.Size = uint64(len(data))
		w.body.Write(data)
	}
	w.heads = append(w.heads, h)
}

func (w *writer) section(s *Section) error {
	h := elf.Section64{
		Name: w.shstr.add(s.Name), Type: uint32(s.Type), Flags: uint64(s.Flags),
		Size: s.Size, Addralign: s.Align, Entsize: s.Entsize,
	}
	data := s.Data
	for _, t := range []*Section{s.LinkTo, s.Target} {
		if t != nil && w.index[t] == 0 {
			return fmt.Errorf("section %q belongs to section %q, which is not in the object", s.Name, t.Name)
		}
	}
	if s.LinkTo != nil {
		h.Link = uint32(w.index[s.LinkTo])
	}
	if s.Target != nil {
		var err error
		if data, err = w.rela(s); err != nil {
			return err
		}
		h.Link, h.Info = uint32(w.symtabIndex), uint32(w.index[s.Target])
	}
	w.put(h, data)
	return nil
}

func (w *writer) symtab(f *File) ([]byte, error) {
	out := make([]byte, symSize)
	n := 1
	for _, local := range []bool{true, false} {
		for _, y := range f.Symbols {
			if (y.Bind == elf.STB_LOCAL) != local {
				continue
			}
			shndx := uint16(y.Shndx)
			if y.Section != nil {
				i, ok := w.index[y.Section]
				if !ok {
					return nil, fmt.Errorf("symbol %q is in section %q, which is not in the object", y.Name, y.Section.Name)
				}
				if i >= int(elf.SHN_LORESERVE) {
					return nil, fmt.Errorf("object has more sections than an ordinary index can name")
				}
				shndx = uint16(i)
			}
			var e [symSize]byte
			binary.LittleEndian.PutUint32(e[0:], w.strs.add(y.Name))
			e[4], e[5] = elf.ST_INFO(y.Bind, y.Type), y.Other
			binary.LittleEndian.PutUint16(e[6:], shndx)
			binary.LittleEndian.PutUint64(e[8:], y.Value)
			binary.LittleEndian.PutUint64(e[16:], y.Size)
			out = append(out, e[:]...)
			w.symIndex[y] = n
			n++
		}
		if local {
			w.locals = n
		}
	}
	return out, nil
}

func (w *writer) rela(s *Section) ([]byte, error) {
	out := make([]byte, 0, len(s.Relocs)*relaSize)
	for _, r := range s.Relocs {
		n, ok := w.symIndex[r.Sym]
		if !ok {
			return nil, fmt.Errorf("relocation in %q of symbol %q, which is not in the object", s.Name, r.Sym.Name)
		}
		out = binary.LittleEndian.AppendUint64(out, r.Off)
		out = binary.LittleEndian.AppendUint64(out, uint64(n)<<32|uint64(r.Type))
		out = binary.LittleEndian.AppendUint64(out, uint64(r.Addend))
	}
	return out, nil
}

func (w *writer) finish() ([]byte, error) {
	w.pad(8)
	h := elf.Header64{
		Type: uint16(elf.ET_REL), Machine: uint16(elf.EM_X86_64), Version: 1,
		Shoff: uint64(w.body.Len()), Ehsize: ehdrSize, Shentsize: shdrSize,
		Shnum: uint16(len(w.heads)), Shstrndx: uint16(len(w.heads) - 1),
	}
	copy(h.Ident[:], elf.ELFMAG)
	h.Ident[elf.EI_CLASS], h.Ident[elf.EI_DATA], h.Ident[elf.EI_VERSION] = byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), 1
	if err := binary.Write(&w.body, binary.LittleEndian, w.heads); err != nil {
		return nil, err
	}
	var head bytes.Buffer
	if err := binary.Write(&head, binary.LittleEndian, h); err != nil {
		return nil, err
	}
	out := w.body.Bytes()
	copy(out, head.Bytes())
	return out, nil
}

type strtab struct {
	buf  bytes.Buffer
	seen map[string]uint32
}

func newStrtab() *strtab {
	t := &strtab{seen: map[string]uint32{"": 0}}
	t.buf.WriteByte(0)
	return t
}

func (t *strtab) add(s string) uint32 {
	if o, ok := t.seen[s]; ok {
		return o
	}
	o := uint32(t.buf.Len())
	t.seen[s] = o
	t.buf.WriteString(s)
	t.buf.WriteByte(0)
	return o
}
