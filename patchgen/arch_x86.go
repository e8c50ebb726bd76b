// SPDX-License-Identifier: Apache-2.0

package patchgen

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"strings"

	"github.com/lupatch/lupatch/internal/elfobj"
	"golang.org/x/arch/x86/x86asm"
)

// This file holds what patchgen knows of x86-64: instructions, the ftrace
// site, and the sections in which the kernel lists places in its code.

// insn is one decoded instruction of a function.
type insn struct {
	off, end uint64 // in the function
	inst     x86asm.Inst
}

// int3 fills gaps between pieces of code, as the kernel's linker script does.
const int3 = 0xcc

// meanInsn is about how many bytes an instruction of kernel code takes.
const meanInsn = 4

var endbr64 = []byte{0xf3, 0x0f, 0x1e, 0xfa}

// decode reads code from its start. It stops where an instruction cannot be
// decoded with certainty: from there on nothing is known, since the length of
// that instruction is not.
func decode(code []byte) []insn {
	out := make([]insn, 0, len(code)/meanInsn+1)
	for off := 0; off < len(code); {
		rest := code[off:]
		var inst x86asm.Inst
		if bytes.HasPrefix(rest, endbr64) {
			inst = x86asm.Inst{Op: x86asm.NOP, Len: len(endbr64)}
		} else {
			if vex(rest) {
				return out
			}
			var err error
			inst, err = x86asm.Decode(rest, 64)
			// Op is 0 for a prefix that x86asm could not join to an instruction.
			if err != nil || inst.Op == 0 || inst.Len == 0 {
				return out
			}
		}
		out = append(out, insn{off: uint64(off), end: uint64(off + inst.Len), inst: inst})
		off += inst.Len
	}
	return out
}

// vex reports an instruction in one of the vector encodings, of which x86asm
// gets some lengths wrong. In 64-bit mode these bytes mean nothing else.
func vex(code []byte) bool {
	for _, b := range code {
		switch b {
		case 0xc4, 0xc5, 0x62:
			return true
		case 0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65, 0x66, 0x67, 0xf0, 0xf2, 0xf3:
			continue // a prefix
		}
		return false
	}
	return false
}

// insnAt finds the instruction that holds offset off; ok is false if decoding
// did not get there.
func insnAt(insns []insn, off uint64) (in insn, ok bool) {
	lo, hi := 0, len(insns)
	for lo < hi {
		mid := (lo + hi) / 2
		if insns[mid].end <= off {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	if lo == len(insns) || off < insns[lo].off {
		return insn{}, false
	}
	return insns[lo], true
}

// branch reports a direct call or jump: its relocation names a place to go to,
// not an address to keep.
func (in insn) branch() bool {
	for _, a := range in.inst.Args {
		if _, ok := a.(x86asm.Rel); ok {
			return true
		}
	}
	return false
}

// call reports a call, after which the code goes on.
func (in insn) call() bool { return in.inst.Op == x86asm.CALL }

// takesAddress reports whether the relocation at off puts the address itself
// into a register or memory, instead of reading or writing what is there.
func (in insn) takesAddress(off uint64) bool {
	if in.inst.Op == x86asm.LEA {
		return true
	}
	hasImm := false
	for _, a := range in.inst.Args {
		if _, ok := a.(x86asm.Imm); ok {
			hasImm = true
		}
	}
	// An immediate is the last field of an instruction, a displacement stands
	// before it.
	return hasImm && off+4 == in.end
}

// lineNumber gives the place and value of a 32-bit immediate at the end of
// in, if in is a MOV, the only instruction that passes a constant on.
func (in insn) lineNumber(code []byte) (off uint64, val uint32, ok bool) {
	if in.inst.Op != x86asm.MOV {
		return 0, 0, false
	}
	for _, a := range in.inst.Args {
		if _, is := a.(x86asm.Imm); is && in.end-in.off >= 5 && in.end <= uint64(len(code)) {
			off = in.end - 4
			return off, binary.LittleEndian.Uint32(code[off:]), true
		}
	}
	return 0, 0, false
}

// relTarget gives where a direct branch without a relocation goes, as an
// offset in the function (it may lie outside), and where its field is.
func (in insn) relTarget() (field uint64, width uint64, target int64, ok bool) {
	for _, a := range in.inst.Args {
		if rel, is := a.(x86asm.Rel); is {
			return in.off + uint64(in.inst.PCRelOff), uint64(in.inst.PCRel), int64(in.end) + int64(rel), true
		}
	}
	return 0, 0, 0, false
}

// ftraceSection lists the ftrace sites that gcc's -mrecord-mcount records.
const ftraceSection = "__mcount_loc"

// ftraceMaxOffset is how far from a function's entry its ftrace site may be:
// behind an ENDBR64 (klp_get_ftrace_location, arch/x86, since 5.18).
const ftraceMaxOffset = 4

// special describes a section whose entries belong to places in the code.
type special struct {
	name string
	// size of one entry in bytes.
	size uint64
	// where in the entry the relocation is that says which function it is for.
	where uint64
	// parallel is a section without relocations whose entries go along.
	parallel     string
	parallelSize uint64
	// late is set if the kernel acts on the entries before the symbols of a
	// patched module are resolved (klp_init_object_loaded comes after the
	// module notifiers and module_finalize), so they must not need any.
	late bool
}

// Sizes are the sizes in bytes of the kernel's own structures, by their C
// names, as its BTF gives them.
type Sizes map[string]uint64

// DefaultSizes are those of Linux 6.1 on x86-64 (the image's BTF).
func DefaultSizes() Sizes {
	return Sizes{
		"alt_instr": 12, "bug_entry": 12, "exception_table_entry": 12, "jump_entry": 16,
		"static_call_site": 8, "paravirt_patch_site": 16, "orc_entry": 6,
	}
}

// specials lists the sections, in the order they are written.
func specials(sz Sizes) []special {
	return []special{
		{name: "__bug_table", size: sz["bug_entry"]},
		{name: "__ex_table", size: sz["exception_table_entry"]},
		{name: ".altinstructions", size: sz["alt_instr"], late: true},
		{name: jumpSection, size: sz["jump_entry"], late: true},
		{name: ".parainstructions", size: sz["paravirt_patch_site"], late: true},
		{name: staticCallSection, size: sz["static_call_site"], late: true},
		{name: ftraceSection, size: 8},
		{name: ".smp_locks", size: 4},
		{name: ".return_sites", size: 4},
		{name: ".retpoline_sites", size: 4},
		{name: ".call_sites", size: 4},
		{name: ".ibt_endbr_seal", size: 4},
		{name: ".orc_unwind_ip", size: 4, parallel: ".orc_unwind", parallelSize: sz["orc_entry"]},
	}
}

const (
	altSection        = ".altinstructions"
	jumpSection       = "__jump_table"
	staticCallSection = ".static_call_sites"
	altReplacement    = ".altinstr_replacement"
	altAux            = ".altinstr_aux"
	// In struct alt_instr the lengths of the old and new code are the last two
	// bytes (arch/x86/include/asm/alternative.h).
	altReplOffset = 4
)

// altReplLen is the length of the replacement of one .altinstructions entry.
func altReplLen(entry []byte) uint64 { return uint64(entry[len(entry)-1]) }

// altInstrLen is the length of the code that it may replace.
func altInstrLen(entry []byte) uint64 { return uint64(entry[len(entry)-2]) }

// rewritten gives the length of code at off that the running kernel may have
// altered because of an entry of the special section name.
func rewritten(name string, entry, code []byte, off uint64) uint64 {
	switch {
	case strings.HasPrefix(name, runtimePtr):
		return 8
	case strings.HasPrefix(name, runtimeShift):
		return 1
	}
	switch name {
	case altSection:
		return altInstrLen(entry)
	case ".parainstructions":
		return uint64(entry[9]) // struct paravirt_patch_site: instr, type, len
	case ".smp_locks":
		return 1
	case ".ibt_endbr_seal":
		return uint64(len(endbr64))
	case ftraceSection, ".return_sites", ".call_sites":
		return 5
	case jumpSection:
		if off < uint64(len(code)) && (code[off] == 0xeb || code[off] == 0x66) {
			return 2
		}
		return 5
	case staticCallSection, ".retpoline_sites":
		// A conditional jump has a two-byte opcode; a retpoline call may carry
		// a CS prefix (-mindirect-branch-cs-prefix) and is followed by an int3
		// after a jump (-mharden-sls), which stays.
		n := uint64(5)
		for i := off; i < uint64(len(code)) && i < off+2; i++ {
			if code[i] == 0x2e || code[i] == 0x0f {
				n++
			}
		}
		return n
	}
	return 0
}

// calls reports relocations that only calls and jumps have, so that nothing needs
// to be decoded (binutils since 2.31 give them to all of those).
func calls(r elfobj.Reloc) bool { return r.Type == elf.R_X86_64_PLT32 }

// barriers are the barriers in a function that have an instruction: mb(),
// wmb() and smp_mb(), a locked addition of nothing to the stack
// (arch/x86/include/asm/barrier.h). smp_rmb() and smp_wmb() have none. LFENCE
// also stands for the end of speculation and is not told from that.
func barriers(it *item) map[string]bool {
	out := map[string]bool{}
	it.insnAt(it.off)
	for _, in := range it.insns {
		switch mem, ok := in.inst.Args[0].(x86asm.Mem); {
		case in.inst.Op == x86asm.MFENCE:
			out["mb"] = true
		case in.inst.Op == x86asm.SFENCE:
			out["wmb"] = true
		case in.inst.Op == x86asm.ADD && ok && mem.Base == x86asm.RSP && in.inst.Args[1] == x86asm.Imm(0) && in.locked():
			out["smp_mb"] = true
		}
	}
	return out
}

func (in insn) locked() bool {
	for _, p := range in.inst.Prefix {
		if p&0xff == x86asm.PrefixLOCK&0xff {
			return true
		}
	}
	return false
}
