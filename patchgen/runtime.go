// SPDX-License-Identifier: Apache-2.0

package patchgen

import (
	"cmp"
	"debug/elf"
	"encoding/binary"
	"slices"
	"strings"

	"github.com/lupatch/lupatch/internal/elfobj"
	"github.com/lupatch/lupatch/internal/refuse"
)

// Since 6.11 the kernel writes the values of a few variables into its own code
// when it boots (asm/runtime-const.h). Modules are passed over, so code that is
// taken out of the kernel would work with the placeholder.

const (
	// runtimePtr and runtimeShift begin the names of the sections that list the
	// places; the rest is the variable's name.
	runtimePtr   = "runtime_ptr_"
	runtimeShift = "runtime_shift_"
	// runtimePlaceholder stands in the code for a value of 64 bits.
	runtimePlaceholder = 0x0123456789abcdef
)

// runtimeSpecials describes those sections of an object.
func runtimeSpecials(f *elfobj.File) []special {
	var out []special
	for _, s := range f.Sections {
		if strings.HasPrefix(s.Name, runtimePtr) || strings.HasPrefix(s.Name, runtimeShift) {
			out = append(out, special{name: s.Name, size: 4})
		}
	}
	return out
}

// runtimeConstants lets carried code read the variable instead.
func (e *emitter) runtimeConstants() error {
	es, err := entries(e.plan.new, runtimeSpecials(e.in.New), func(it *item) bool { return it.included })
	if err != nil {
		return err
	}
	for _, x := range es {
		if x.item.kind != function {
			return refuse.New(refuse.SpecialSection, x.item.name, "it holds a value that the kernel fills in at boot (%s)", x.special.name)
		}
		name, ok := strings.CutPrefix(x.special.name, runtimePtr)
		if !ok {
			return refuse.New(refuse.SpecialSection, x.item.name, "the code at +0x%x holds a number that the kernel fills in at boot (%s)", x.at, x.special.name)
		}
		if err := e.loadVariable(x, name); err != nil {
			return err
		}
	}
	return nil
}

// loadVariable turns `movabs $placeholder,%reg` into `mov variable,%reg`.
func (e *emitter) loadVariable(x entry, name string) error {
	const movabs = 10 // bytes: REX, opcode, 64 bits
	s := e.secOf[x.item]
	end := e.at[x.item] + x.at + 8
	if end > uint64(len(s.Data)) || end < movabs {
		return refuse.New(refuse.Undecodable, x.item.name, "the place +0x%x that %s names is outside of the function", x.at, x.special.name)
	}
	code := s.Data[end-movabs : end]
	if code[0]&^1 != 0x48 || code[1]&^7 != 0xb8 || binary.LittleEndian.Uint64(code[2:]) != runtimePlaceholder {
		return refuse.New(refuse.Undecodable, x.item.name, "the instruction at +0x%x is not what %s announces", x.at-2, x.special.name)
	}
	sym, err := e.variable(name, x.item)
	if err != nil {
		return err
	}
	// REX.W mov r64, disp32: ModRM and SIB say that there is an address only,
	// which is that of the kernel, in the upper 2 GB. The register's fourth bit
	// moves from REX.B to REX.R. The rest is a NOP of two bytes.
	reg, high := code[1]&7, code[0]&1
	copy(code, []byte{0x48 | high<<2, 0x8b, 0x04 | reg<<3, 0x25, 0, 0, 0, 0, 0x66, 0x90})
	s.Relocs = append(s.Relocs, elfobj.Reloc{Off: end - movabs + 4, Type: elf.R_X86_64_32S, Sym: sym})
	slices.SortStableFunc(s.Relocs, func(a, b elfobj.Reloc) int { return cmp.Compare(a.Off, b.Off) })
	return nil
}

// variable refers to a variable of the running kernel by name: only the
// section's name says which it is.
func (e *emitter) variable(name string, from *item) (*elfobj.Symbol, error) {
	for _, it := range e.plan.new.items {
		if it.name == name && it.kind == data {
			if e.secOf[it] != nil || it.twin == nil {
				return nil, refuse.New(refuse.SpecialSection, from.name, "%s is new, and the kernel fills its value in at boot only", name)
			}
			return e.shipped(it)
		}
	}
	return e.external(name, from)
}

// checkListed refuses code that is listed in a section whose meaning is not
// known: what the kernel does with such places would not be done in an update.
func (p *plan) checkListed() error {
	for _, it := range p.new.items {
		if it.kind != anonymous || it.included || it.registry || it.sec.Exec() || it.life != always || hasAnyPrefix(it.sec.Name, []string{runtimePtr, runtimeShift}) {
			continue
		}
		for _, r := range it.relocs() {
			if t, err := p.new.resolve(it, r); err == nil && t.item != nil && t.item.kind == function && t.item.included {
				return refuse.New(refuse.SpecialSection, t.item.name, "section %s lists the place +0x%x in it, and it is not known what for", it.sec.Name, t.off)
			}
		}
	}
	return nil
}
