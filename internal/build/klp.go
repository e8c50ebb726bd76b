// SPDX-License-Identifier: Apache-2.0

package build

import (
	"debug/elf"
	"fmt"
	"slices"
	"strings"

	"github.com/lupatch/lupatch/internal/elfobj"
	"github.com/lupatch/lupatch/internal/manifest"
	"github.com/lupatch/lupatch/patchgen"
)

// convert turns a module as the kernel's build linked it into a livepatch:
// references to symbols that nobody exports become livepatch symbols, their
// relocations move to sections that the livepatch core applies, and the
// manifest is put in. The format is that of
// Documentation/livepatch/module-elf-format.rst. Plain says which references
// kept the names they have in the kernel; more are sections to be put in, too.
func convert(ko []byte, man []byte, plain map[string]patchgen.Ref, more ...*elfobj.Section) ([]byte, error) {
	f, err := elfobj.Read(ko)
	if err != nil {
		return nil, err
	}
	dropDebug(f)
	group := map[*elfobj.Symbol]string{}
	for _, y := range f.Symbols {
		owner, ref, ok := patchgen.ParseKlpOwner(y.Name)
		if p, is := plain[y.Name]; is {
			owner, ref, ok = patchgen.VMLinux, p, true
		} else if name, is := strings.CutPrefix(y.Name, kernelPrefix); is {
			owner, ref, ok = patchgen.VMLinux, patchgen.Ref{Object: patchgen.VMLinux, Symbol: name}, true
		}
		if !ok || !y.Undefined() {
			continue
		}
		// What vmlinux has is resolved when the update is loaded, on behalf of
		// no module: a section for a module must not name it (klp_resolve_symbols).
		if ref.Object == patchgen.VMLinux {
			owner = patchgen.VMLinux
		}
		group[y] = owner
		y.Name = fmt.Sprintf(".klp.sym.%s.%s,%d", ref.Object, ref.Symbol, ref.Sympos)
		y.Shndx = elfobj.ShnLivepatch
	}
	dropLateCalls(f, group)
	var added []*elfobj.Section
	for _, s := range f.Sections {
		added = append(added, split(s, group)...)
	}
	f.Sections = append(f.Sections, added...)
	f.Sections = append(append(f.Sections, more...), notLoaded(manifest.Section, man))
	out, err := f.Bytes()
	if err != nil {
		return nil, err
	}
	return manifest.Seal(out)
}

// notLoaded makes a section that stays in the file.
func notLoaded(name string, data []byte) *elfobj.Section {
	return &elfobj.Section{Name: name, Type: elf.SHT_PROGBITS, Align: 1, Data: data, Size: uint64(len(data))}
}

// split takes the livepatch relocations out of s, one section an owner.
func split(s *elfobj.Section, group map[*elfobj.Symbol]string) []*elfobj.Section {
	var out []*elfobj.Section
	var plain []elfobj.Reloc
	byOwner := map[string]*elfobj.Section{}
	for _, r := range s.Relocs {
		owner, ok := group[r.Sym]
		if !ok {
			plain = append(plain, r)
			continue
		}
		k := byOwner[owner]
		if k == nil {
			k = &elfobj.Section{
				Name: fmt.Sprintf(".klp.rela.%s.%s", owner, s.Name), Type: elf.SHT_RELA, Align: 8, Entsize: 24,
				Flags:  elf.SHF_ALLOC | elf.SHF_INFO_LINK | elfobj.FlagLivepatch,
				Target: s,
			}
			byOwner[owner] = k
			out = append(out, k)
		}
		k.Relocs = append(k.Relocs, r)
		k.Size += k.Entsize
	}
	s.Relocs = plain
	return out
}

// dropDebug removes the debugging sections of the template, which nobody
// reads and which are most of the file.
func dropDebug(f *elfobj.File) {
	gone := map[*elfobj.Section]bool{}
	f.Sections = slices.DeleteFunc(f.Sections, func(s *elfobj.Section) bool {
		gone[s] = !s.Alloc() && strings.HasPrefix(s.Name, ".debug")
		return gone[s]
	})
	f.Symbols = slices.DeleteFunc(f.Symbols, func(y *elfobj.Symbol) bool { return y.Section != nil && gone[y.Section] })
}
