// SPDX-License-Identifier: Apache-2.0

package kallsyms

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"fmt"
)

// layout says how the tables are written: what differs among kernels.
type layout struct {
	name     string
	late     bool // addresses behind the tokens (since 6.4)
	seqs     bool // seqs_of_names behind the markers (6.2, 6.3) or at the end (since 6.4)
	absolute bool // no CONFIG_KALLSYMS_BASE_RELATIVE
	plain    bool // offsets without ABSOLUTE_PERCPU
	align    int
}

var layouts = []layout{
	{name: "6.1", align: 8},
	{name: "6.1 absolute", absolute: true, align: 8},
	{name: "6.3", seqs: true, align: 8},
	{name: "6.6", late: true, seqs: true, align: 8},
	{name: "6.12", late: true, seqs: true, align: 4},
	{name: "6.15", late: true, seqs: true, plain: true, align: 4},
}

const testBase = 0xffffffff81000000

// testSymbols are in kallsyms order. Per-CPU symbols come first.
func testSymbols(percpu bool) []Symbol {
	var out []Symbol
	if percpu {
		out = append(out, Symbol{Addr: 0, Type: 'A', Name: "__per_cpu_start"}, Symbol{Addr: 0x1000, Type: 'A', Name: "cpu_debug_store"})
	}
	out = append(out, Symbol{Addr: testBase, Type: 'T', Name: "_text"}, Symbol{Addr: testBase, Type: 'T', Name: "_stext"})
	for i := range 1500 {
		s := Symbol{Addr: testBase + 0x100 + uint64(i)*16, Type: 't', Name: fmt.Sprintf("function_%d", i)}
		switch {
		case i%100 == 0:
			s.Name = "namesake"
		case i == 777: // a "big symbol": more than 127 bytes
			s.Name = "_R" + string(bytes.Repeat([]byte("long_"), 60))
		}
		out = append(out, s)
	}
	return append(out, Symbol{Addr: testBase + 0xfff0, Type: 'D', Name: "linux_banner"})
}

// testTables writes the tables and gives the offset of each.
func testTables(syms []Symbol, l layout) (b []byte, at map[string]int) {
	at = map[string]int{}
	pad := func(n int) {
		for len(b)%n != 0 {
			b = append(b, 0)
		}
	}
	table := func(name string) { pad(l.align); at[name] = len(b) }
	le := binary.LittleEndian
	// Each character is its own token; one token is a whole word.
	const word = 1
	token := func(i int) string {
		switch {
		case i == word:
			return "function_"
		case i > ' ' && i < 0x7f:
			return string(rune(i))
		}
		return "" // unused codes are empty, as in real tables
	}
	b = append(b, bytes.Repeat([]byte{0xcc}, 4096)...) // other data
	addresses := func() {
		if l.absolute {
			table("addresses")
			for _, s := range syms {
				b = le.AppendUint64(b, s.Addr)
			}
			return
		}
		table("offsets")
		for _, s := range syms {
			switch {
			case l.plain:
				b = le.AppendUint32(b, uint32(s.Addr-testBase))
			case s.Addr < testBase:
				b = le.AppendUint32(b, uint32(s.Addr))
			default:
				b = le.AppendUint32(b, uint32(-1-int64(s.Addr-testBase)))
			}
		}
		table("base")
		b = le.AppendUint64(b, testBase)
	}
	if !l.late {
		addresses()
	}
	table("count")
	b = le.AppendUint32(b, uint32(len(syms)))
	table("names")
	var marks []uint32
	for i, s := range syms {
		if i%markerEvery == 0 {
			marks = append(marks, uint32(len(b)-at["names"]))
		}
		name := string(s.Type) + s.Name
		packed := bytes.ReplaceAll([]byte(name), []byte("function_"), []byte{word})
		if i == len(syms)/2 {
			at["length"] = len(b)
		}
		if len(packed) >= bigSymbol {
			b = append(b, byte(len(packed)&0x7f|bigSymbol), byte(len(packed)>>7))
		} else {
			b = append(b, byte(len(packed)))
		}
		b = append(b, packed...)
	}
	table("markers")
	for _, m := range marks {
		b = le.AppendUint32(b, m)
	}
	if l.seqs && !l.late {
		table("seqs")
		b = append(b, make([]byte, 3*len(syms))...)
	}
	table("tokens")
	var index []uint16
	for i := range tokens {
		index = append(index, uint16(len(b)-at["tokens"]))
		b = append(append(b, token(i)...), 0)
	}
	table("index")
	for _, v := range index {
		b = le.AppendUint16(b, v)
	}
	if l.late {
		addresses()
		if l.seqs {
			table("seqs")
			b = append(b, make([]byte, 3*len(syms))...)
		}
	}
	return append(b, bytes.Repeat([]byte{0xcc}, 512)...), at
}

// testELF wraps the tables in the smallest vmlinux: one segment that is loaded,
// with the banner in it, one section with the tables, and a build id.
func testELF(tables []byte) []byte {
	const (
		ehsize, phsize, shsize = 64, 56, 64
		segment                = 0x10000
	)
	le := binary.LittleEndian
	body := make([]byte, segment)
	copy(body[0xfff0:], "Linux version ")
	note := []byte{4, 0, 0, 0, 4, 0, 0, 0, noteGNUBuildID, 0, 0, 0, 'G', 'N', 'U', 0, 0xde, 0xad, 0xbe, 0xef}
	names := "\x00.text\x00.rodata\x00.notes\x00.shstrtab\x00"
	off := func(parts ...[]byte) (n uint64) {
		n = ehsize + phsize
		for _, p := range parts {
			n += uint64(len(p))
		}
		return n
	}
	for len(tables)%8 != 0 {
		tables = append(tables, 0)
	}
	str := []byte(names)
	for len(str)%8 != 0 {
		str = append(str, 0)
	}
	shoff := off(body, tables, note, str)
	var b bytes.Buffer
	w := func(v any) { binary.Write(&b, le, v) }
	h := elf.Header64{
		Type: uint16(elf.ET_EXEC), Machine: uint16(elf.EM_X86_64), Version: 1, Phoff: ehsize, Shoff: shoff,
		Ehsize: ehsize, Phentsize: phsize, Phnum: 1, Shentsize: shsize, Shnum: 5, Shstrndx: 4,
	}
	copy(h.Ident[:], elf.ELFMAG)
	h.Ident[elf.EI_CLASS], h.Ident[elf.EI_DATA], h.Ident[elf.EI_VERSION] = byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), 1
	w(h)
	w(elf.Prog64{Type: uint32(elf.PT_LOAD), Off: off(), Vaddr: testBase, Filesz: segment, Memsz: segment + 0x1000})
	b.Write(body)
	b.Write(tables)
	b.Write(note)
	b.Write(str)
	name := func(s string) uint32 { return uint32(bytes.Index([]byte(names), []byte(s))) }
	w(elf.Section64{})
	w(elf.Section64{Name: name(".text"), Type: uint32(elf.SHT_PROGBITS), Flags: uint64(elf.SHF_ALLOC | elf.SHF_EXECINSTR), Addr: testBase, Off: off(), Size: segment})
	w(elf.Section64{Name: name(".rodata"), Type: uint32(elf.SHT_PROGBITS), Flags: uint64(elf.SHF_ALLOC), Off: off(body), Size: uint64(len(tables))})
	w(elf.Section64{Name: name(".notes"), Type: uint32(elf.SHT_NOTE), Flags: uint64(elf.SHF_ALLOC), Off: off(body, tables), Size: uint64(len(note))})
	w(elf.Section64{Name: name(".shstrtab"), Type: uint32(elf.SHT_STRTAB), Off: off(body, tables, note), Size: uint64(len(str))})
	return b.Bytes()
}

// testBz wraps a payload in a bzImage.
func testBz(payload []byte) []byte {
	const sects, before = 3, 100
	b := make([]byte, (sects+1)*sector+before)
	b[bootSetupSects] = sects
	copy(b[bootMagic:], "HdrS")
	binary.LittleEndian.PutUint16(b[bootVersion:], 0x020f)
	binary.LittleEndian.PutUint32(b[bootPayloadOffset:], before)
	binary.LittleEndian.PutUint32(b[bootPayloadLength:], uint32(len(payload)))
	return append(append(b, payload...), 0xff, 0xff)
}
