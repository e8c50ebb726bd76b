// SPDX-License-Identifier: Apache-2.0

package build

import (
	"github.com/lupatch/lupatch/internal/elfobj"
	"github.com/lupatch/lupatch/internal/kbuild"
	"github.com/lupatch/lupatch/patchgen"
)

// plainNames gives references back the names that symbols have in the kernel
// until the module is linked: objtool, which kernels with IBT run on what is
// linked, knows by name which functions do not return, which may be called
// while user memory is open, and what is a static call. It lists the names it
// gave. A reference keeps its long name where the plain one would mean
// something else to the linker or to modpost.
func plainNames(units []*unit, exports map[string]kbuild.Export) map[string]patchgen.Ref {
	taken := map[string]bool{}
	var files []*elfobj.File
	for _, u := range units {
		if u.tu.Late == nil || u.result.Empty() {
			continue
		}
		files = append(files, u.result.Object)
		for _, y := range u.result.Object.Symbols {
			taken[y.Name] = true
		}
	}
	plain := map[string]patchgen.Ref{}
	for _, f := range files {
		for _, y := range f.Symbols {
			ref, ok := patchgen.ParseKlp(y.Name)
			if !ok || !y.Undefined() || ref.Object != patchgen.VMLinux || ref.Sympos != 0 || taken[ref.Symbol] {
				continue
			}
			if _, exported := exports[ref.Symbol]; !exported {
				y.Name, plain[ref.Symbol] = ref.Symbol, ref
			}
		}
	}
	return plain
}

// callSites lists calls that the kernel leads past the called function's entry
// on processors that need it (call depth tracking, since 6.2).
const callSites = ".call_sites"

// dropLateCalls takes calls of functions of patched modules out of that list:
// the kernel goes through it before those calls lead anywhere.
func dropLateCalls(f *elfobj.File, owners map[*elfobj.Symbol]string) {
	const entry = 4
	s := f.Section(callSites)
	if s == nil || s.Size%entry != 0 {
		return
	}
	var data []byte
	var rels []elfobj.Reloc
	for _, r := range s.Relocs {
		at := r.Off &^ (entry - 1)
		if code := r.Sym.Section; code != nil && at+entry <= uint64(len(s.Data)) {
			call := r.Sym.Value + uint64(r.Addend) + (at - r.Off)
			if late(code.RelocsIn(call+1, call+2), owners) {
				continue
			}
		}
		r.Off += uint64(len(data)) - at
		data = append(data, s.Data[at:at+entry]...)
		rels = append(rels, r)
	}
	s.Data, s.Relocs, s.Size = data, rels, uint64(len(data))
}

// late reports relocations that are made on behalf of a module.
func late(rels []elfobj.Reloc, owners map[*elfobj.Symbol]string) bool {
	for _, r := range rels {
		if o, ok := owners[r.Sym]; ok && o != patchgen.VMLinux {
			return true
		}
	}
	return false
}
