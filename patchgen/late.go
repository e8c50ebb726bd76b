// SPDX-License-Identifier: Apache-2.0

package patchgen

import (
	"bytes"
	"debug/elf"
	"strings"

	"github.com/lupatch/lupatch/internal/elfobj"
	"github.com/lupatch/lupatch/internal/refuse"
)

// Where objtool runs on what is linked, it makes .orc_unwind, .call_sites,
// .static_call_sites and the like of the update itself. It needs what tells it
// about the code (annotations), which the linker then drops, and the keys of
// static calls, which it finds by name.

const (
	annotationPrefix = ".discard."
	addressable      = ".discard.addressable"
	noEndbr          = ".discard.noendbr"
	staticCallTramp  = "__SCT__" // STATIC_CALL_TRAMP_PREFIX, linux/static_call_types.h
	staticCallKey    = "__SCK__" // STATIC_CALL_KEY_PREFIX
)

// annotations lists the sections that tell objtool about places in the code.
// How long an entry is differs from one to the next and from kernel to kernel,
// so it is measured: each has one relocation, in the same place.
func annotations(f *elfobj.File) ([]special, error) {
	var out []special
	for _, s := range f.Sections {
		n := uint64(len(s.Relocs))
		if !strings.HasPrefix(s.Name, annotationPrefix) || s.Name == addressable || n == 0 {
			continue
		}
		x := special{name: s.Name, size: s.Size / n, where: s.Relocs[0].Off}
		regular := s.Size%n == 0
		for i, r := range s.Relocs {
			regular = regular && r.Off == uint64(i)*x.size+x.where
		}
		if !regular {
			return nil, refuse.New(refuse.SpecialSection, s.Name, "the section holds %d bytes and %d relocations that are not one to an entry", s.Size, n)
		}
		out = append(out, x)
	}
	return out, nil
}

// reachable checks a converted relocation: whether what it refers to may be
// reached from the update in that way.
func (e *emitter) reachable(from *item, r elfobj.Reloc, t target) error {
	if from == nil || r.Sym.Section != nil {
		return nil
	}
	if t.ext != nil {
		if p, is := e.in.Provided[t.ext.Name]; is && p.Ref == nil {
			return nil
		}
	}
	name := ""
	if t.ext != nil {
		name = t.ext.Name
	} else {
		name = t.item.name
	}
	if e.in.LateObjtool && strings.HasPrefix(name, staticCallTramp) {
		return e.staticCall(from, name, r.Sym.Name)
	}
	if t.item != nil && t.item.kind != function || !takesAddress(from, r) {
		return nil
	}
	ref, ok := ParseKlp(r.Sym.Name)
	if !ok {
		ref = Ref{Object: VMLinux, Symbol: r.Sym.Name, Exported: true}
	}
	if e.in.Kernel.Callable(ref) {
		return nil
	}
	return refuse.New(refuse.SealedFunction, from.name, "it takes the address of %s, which the kernel allows to be called directly only", ref.Symbol)
}

// takesAddress reports whether a relocation in an item puts an address
// somewhere, instead of going there.
func takesAddress(from *item, r elfobj.Reloc) bool {
	switch {
	case !from.sec.Exec():
		return true
	case from.kind != function:
		return false // .altinstr_aux only branches and tests
	}
	// r.Off is still the place in the old section.
	in, ok := from.insnAt(r.Off)
	return !ok || !in.branch() && in.takesAddress(r.Off-from.off)
}

// staticCall sees to it that objtool finds the key of a static call whose
// trampoline new code refers to. Without it the kernel would look the
// trampoline up among the exported ones and refuse the module.
func (e *emitter) staticCall(from *item, tramp, sym string) error {
	name := strings.TrimPrefix(tramp, staticCallTramp)
	if ref, ok := ParseKlp(sym); ok && ref.Object != VMLinux {
		// The name it has until it is linked keeps objtool from listing it: the
		// call goes through the trampoline, as it does where objtool ran before.
		return nil
	}
	for _, y := range e.plan.new.file.Symbols {
		if y.Name != staticCallKey+name {
			continue
		}
		key, err := e.keySymbol(y, from)
		if err != nil {
			return err
		}
		for _, k := range e.keys {
			if k == key {
				return nil
			}
		}
		e.keys = append(e.keys, key)
		return nil
	}
	return nil // code of modules may use exported trampolines without their keys
}

func (e *emitter) keySymbol(y *elfobj.Symbol, from *item) (*elfobj.Symbol, error) {
	it := e.plan.new.bySym[y]
	switch {
	case it == nil:
		return e.external(y.Name, from)
	case e.secOf[it] != nil:
		return e.symOf[it], nil
	}
	return e.shipped(it)
}

// withoutEndbr tells objtool that redirected functions need no ENDBR though the
// table of the update holds their addresses: ftrace gets there by a return.
func (e *emitter) withoutEndbr() {
	const entry = 4
	s := &elfobj.Section{Name: noEndbr, Type: elf.SHT_PROGBITS, Align: 1}
	for _, it := range e.plan.redirected {
		if bytes.HasPrefix(it.code(), endbr64) {
			continue
		}
		y, at := e.own(it, 0)
		s.Relocs = append(s.Relocs, elfobj.Reloc{Off: s.Size, Type: elf.R_X86_64_PC32, Sym: y, Addend: at})
		s.Size += entry
	}
	if s.Size == 0 {
		return
	}
	s.Data = make([]byte, s.Size)
	e.out.Sections = append(e.out.Sections, s)
}

// staticCallKeys refers to each key from a section that the linker drops.
func (e *emitter) staticCallKeys() {
	if len(e.keys) == 0 {
		return
	}
	const pointer = 8
	s := &elfobj.Section{Name: addressable, Type: elf.SHT_PROGBITS, Flags: elf.SHF_WRITE | elf.SHF_ALLOC, Align: pointer}
	for i, k := range e.keys {
		s.Relocs = append(s.Relocs, elfobj.Reloc{Off: uint64(i) * pointer, Type: elf.R_X86_64_64, Sym: k})
	}
	s.Size = uint64(len(e.keys)) * pointer
	s.Data = make([]byte, s.Size)
	e.out.Sections = append(e.out.Sections, s)
}
