// SPDX-License-Identifier: Apache-2.0

package kmodule

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"slices"
	"strings"

	"golang.org/x/arch/x86/x86asm"
)

// allocators are the functions that allocate a network device, with the register
// of the argument that is the size of the driver's private area
// (include/linux/netdevice.h, include/linux/etherdevice.h).
var allocators = map[string]x86asm.Reg{
	"alloc_etherdev_mqs":      x86asm.EDI,
	"alloc_netdev_mqs":        x86asm.EDI,
	"devm_alloc_etherdev_mqs": x86asm.ESI,
}

// privateSize looks for calls of the allocators and for the constant that was last
// put into the register before each; it gives the largest.
func privateSize(f *elf.File, syms []elf.Symbol) (size uint64) {
	for _, rs := range f.Sections {
		if rs.Type != elf.SHT_RELA || int(rs.Info) >= len(f.Sections) {
			continue
		}
		text := f.Sections[rs.Info]
		if text.Flags&elf.SHF_EXECINSTR == 0 || text.Type == elf.SHT_NOBITS {
			continue
		}
		rela, err := rs.Data()
		if err != nil {
			continue
		}
		var code []byte
		const entry = 24 // Elf64_Rela
		for ; len(rela) >= entry; rela = rela[entry:] {
			at, info := binary.LittleEndian.Uint64(rela), binary.LittleEndian.Uint64(rela[8:])
			// debug/elf leaves out the null symbol.
			n := int(info>>32) - 1
			if n < 0 || n >= len(syms) {
				continue
			}
			reg, ok := allocators[syms[n].Name]
			if !ok {
				continue
			}
			if code == nil {
				if code, err = text.Data(); err != nil {
					return 0
				}
			}
			size = max(size, constantBefore(code, startOf(syms, elf.SectionIndex(rs.Info), at), at, reg))
		}
	}
	return size
}

// startOf is the begin of the function in which an address of a section lies.
func startOf(syms []elf.Symbol, section elf.SectionIndex, at uint64) uint64 {
	var starts []uint64
	for _, s := range syms {
		if s.Section == section && elf.ST_TYPE(s.Info) == elf.STT_FUNC && s.Value <= at && !strings.HasPrefix(s.Name, "__pfx_") {
			starts = append(starts, s.Value)
		}
	}
	if starts == nil {
		return at
	}
	return slices.Max(starts)
}

// endbr64 is where an indirect call may go with IBT; x86asm does not know it.
var endbr64 = []byte{0xf3, 0x0f, 0x1e, 0xfa}

// constantBefore decodes from one address up to a call, whose relocation is at
// another, and gives the constant that was put into the register last.
func constantBefore(code []byte, from, to uint64, reg x86asm.Reg) (value uint64) {
	for from < to && to <= uint64(len(code)) {
		if bytes.HasPrefix(code[from:], endbr64) {
			from += uint64(len(endbr64))
			continue
		}
		in, err := x86asm.Decode(code[from:], 64)
		if err != nil {
			return 0
		}
		if dst, ok := in.Args[0].(x86asm.Reg); ok && (dst == reg || dst == reg-x86asm.EAX+x86asm.RAX) {
			value = 0
			if imm, ok := in.Args[1].(x86asm.Imm); ok && in.Op == x86asm.MOV {
				value = uint64(imm)
			}
		}
		from += uint64(in.Len)
	}
	return value
}
