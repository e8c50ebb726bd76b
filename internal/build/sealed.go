// SPDX-License-Identifier: Apache-2.0

package build

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"github.com/lupatch/lupatch/internal/elfobj"
	"github.com/lupatch/lupatch/internal/kallsyms"
	"github.com/lupatch/lupatch/patchgen"
)

// On kernels with IBT (CONFIG_X86_KERNEL_IBT, since 5.18) a function that is
// called through a pointer begins with ENDBR64. Objtool lists in sealSection
// those that nobody calls so, and at boot the kernel puts a NOP in its place.

const sealSection = ".ibt_endbr_seal"

var endbr64 = []byte{0xf3, 0x0f, 0x1e, 0xfa}

// sealedKernel lists the addresses of vmlinux that are sealed; nil if the
// kernel has no such list, and so no need of ENDBR.
func sealedKernel(im *kallsyms.Image) (map[uint64]bool, error) {
	s := im.ELF.Section(sealSection)
	if s == nil {
		return nil, nil
	}
	b, err := s.Data()
	if err != nil {
		return nil, fmt.Errorf("reading the sealed functions of the kernel image: %w", err)
	}
	out := map[uint64]bool{}
	for i := 0; i+4 <= len(b); i += 4 { // s32, each relative to its own place
		out[s.Addr+uint64(i)+uint64(int64(int32(binary.LittleEndian.Uint32(b[i:]))))] = true
	}
	return out, nil
}

// codePlace is a place in a module's code.
type codePlace struct {
	sec *elfobj.Section
	off uint64
}

// sealedModule is sealedKernel for the shipped file of a module.
func sealedModule(ko *elfobj.File) map[codePlace]bool {
	out := map[codePlace]bool{}
	for _, s := range ko.Sections {
		if s.Name != sealSection {
			continue
		}
		for _, r := range s.Relocs {
			if r.Sym.Section != nil {
				out[codePlace{r.Sym.Section, r.Sym.Value + uint64(r.Addend)}] = true
			}
		}
	}
	return out
}

// Callable implements patchgen.Symbols.
func (k *kernelSymbols) Callable(ref patchgen.Ref) bool {
	switch {
	case k.sealed == nil:
		return true
	case ref.Object == patchgen.VMLinux:
		return k.callableKernel(ref)
	case k.module != nil && ref.Object == k.placed.Unit:
		return k.callableModule(ref)
	}
	return true // what another module exports is never sealed
}

func (k *kernelSymbols) callableKernel(ref patchgen.Ref) bool {
	for _, s := range k.image.Lookup(ref.Symbol) {
		if s.Module != "" || !s.IsText() {
			continue
		}
		if pos, _ := k.image.Sympos(ref.Symbol, s.Addr); pos != ref.Sympos {
			continue
		}
		head, err := k.memory.ReadAt(s.Addr, len(endbr64))
		if err != nil || !bytes.Equal(head, endbr64) || k.sealed[s.Addr] {
			return false
		}
	}
	return true
}

func (k *kernelSymbols) callableModule(ref patchgen.Ref) bool {
	n := 0
	for _, y := range k.module.Symbols {
		if y.Name != ref.Symbol || y.IsSection() || y.Section == nil {
			continue
		}
		if n++; ref.Sympos != 0 && ref.Sympos != n || !y.Section.Exec() {
			continue
		}
		code := y.Section.Data
		if y.Value > uint64(len(code)) || !bytes.HasPrefix(code[y.Value:], endbr64) || k.sealedHere[codePlace{y.Section, y.Value}] {
			return false
		}
	}
	return true
}
