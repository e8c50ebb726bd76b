// SPDX-License-Identifier: Apache-2.0

package build

import (
	"bytes"
	"debug/elf"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/lupatch/lupatch/internal/elfobj"
	"github.com/lupatch/lupatch/internal/manifest"
	"github.com/lupatch/lupatch/patchgen"
)

func sampleManifest() *manifest.Manifest {
	return &manifest.Manifest{
		Schema: manifest.Schema, Name: "fix", Method: "livepatch", Release: "6.1.0-47-amd64", Class: manifest.ClassCode,
		Created: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
		Source:  manifest.Source{SHA256: strings.Repeat("0", 64), Files: []string{"a.c"}},
		Tools:   manifest.Tools{Lupatch: "devel", Compiler: "gcc"},
		Units: []manifest.Unit{{Name: "e1000", BuildID: strings.Repeat("0", 40), Gives: 1,
			Functions: []manifest.Function{{Name: "f", File: "a.c", OldSize: 1, NewSize: 1, Digest: strings.Repeat("0", 16), Effect: manifest.EffectNow}}}},
	}
}

// linked is a module as the kernel's build would link it: two objects of an
// update, each with references of its own.
func linked(t testing.TB) []byte {
	t.Helper()
	sym := func(name string) *elfobj.Symbol { return &elfobj.Symbol{Name: name, Bind: elf.STB_GLOBAL} }
	klp := func(owner, object, name string, pos int) *elfobj.Symbol {
		return sym(patchgen.KlpSymbol(owner, patchgen.Ref{Object: object, Symbol: name, Sympos: pos}))
	}
	text := &elfobj.Section{Name: ".text", Type: elf.SHT_PROGBITS, Flags: elf.SHF_ALLOC | elf.SHF_EXECINSTR, Align: 16, Data: make([]byte, 64), Size: 64}
	data := &elfobj.Section{Name: ".data", Type: elf.SHT_PROGBITS, Flags: elf.SHF_ALLOC | elf.SHF_WRITE, Align: 8, Data: make([]byte, 32), Size: 32}
	debug := &elfobj.Section{Name: ".debug_info", Type: elf.SHT_PROGBITS, Align: 1, Data: make([]byte, 8), Size: 8}
	printk, own := sym("_printk"), &elfobj.Symbol{Name: "f", Type: elf.STT_FUNC, Bind: elf.STB_GLOBAL, Section: text, Size: 8}
	gone := &elfobj.Symbol{Type: elf.STT_SECTION, Section: debug}
	up, upToo := klp("e1000", "e1000", "e1000_up", 0), klp("e1000", "e1000", "x.part.0", 2)
	vm, vm2 := klp("e1000", "vmlinux", "tcp_v4_rcv", 0), klp("vmlinux", "vmlinux", "tcp_v4_rcv", 0)
	other := klp("e1000", "mii", "mii_link_ok", 0)
	syms := []*elfobj.Symbol{gone, own, printk, up, upToo, vm, vm2, other}
	for i, y := range []*elfobj.Symbol{printk, up, vm, vm2, other, own, up} {
		text.Relocs = append(text.Relocs, elfobj.Reloc{Off: uint64(8 * i), Type: elf.R_X86_64_PLT32, Sym: y, Addend: -4})
	}
	for i, y := range []*elfobj.Symbol{upToo, own, vm2} {
		data.Relocs = append(data.Relocs, elfobj.Reloc{Off: uint64(8 * i), Type: elf.R_X86_64_64, Sym: y, Addend: int64(i)})
	}
	debug.Relocs = []elfobj.Reloc{{Off: 0, Type: elf.R_X86_64_64, Sym: own}}
	f := &elfobj.File{Sections: []*elfobj.Section{text, data, debug}, Symbols: syms}
	b, err := f.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestConvert(t *testing.T) {
	section, err := manifest.EncodeSection(sampleManifest())
	if err != nil {
		t.Fatal(err)
	}
	in := linked(t)
	before := bytes.Clone(in)
	out, err := convert(in, section, nil)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(in, before) {
		t.Error("the input was changed")
	}
	if again, err := convert(in, section, nil); err != nil || !bytes.Equal(out, again) {
		t.Error("the same input gives another module", err)
	}
	m, err := manifest.FromModule(out)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(sampleManifest(), m); d != "" {
		t.Error(d)
	}
	f, err := elfobj.Read(out)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, s := range f.Sections {
		line := s.Name
		if s.Target != nil {
			line += " > " + s.Target.Name
			if s.Flags != elf.SHF_ALLOC|elf.SHF_INFO_LINK|elfobj.FlagLivepatch || s.Type != elf.SHT_RELA {
				t.Errorf("%s: type %v, flags %#x", s.Name, s.Type, s.Flags)
			}
		}
		for _, r := range s.Relocs {
			line += fmt.Sprintf(" %d:%s%+d", r.Off, r.Sym.Name, r.Addend)
		}
		if s.Name != manifest.Section && !strings.HasPrefix(s.Name, ".lupatch") {
			got = append(got, line)
		}
	}
	slices.Sort(got)
	// The references made for e1000 to vmlinux are resolved on behalf of no
	// module: the livepatch core refuses them in a section for one.
	want := []string{
		".data 8:f+1",
		".klp.rela.e1000..data > .data 0:.klp.sym.e1000.x.part.0,2+0",
		".klp.rela.e1000..text > .text 8:.klp.sym.e1000.e1000_up,0-4 32:.klp.sym.mii.mii_link_ok,0-4 48:.klp.sym.e1000.e1000_up,0-4",
		".klp.rela.vmlinux..data > .data 16:.klp.sym.vmlinux.tcp_v4_rcv,0+2",
		".klp.rela.vmlinux..text > .text 16:.klp.sym.vmlinux.tcp_v4_rcv,0-4 24:.klp.sym.vmlinux.tcp_v4_rcv,0-4",
		".text 0:_printk-4 40:f-4",
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	for _, y := range f.Symbols {
		if strings.HasPrefix(y.Name, ".klp.sym.") != (y.Shndx == elfobj.ShnLivepatch) || strings.HasPrefix(y.Name, ".lupatch") {
			t.Errorf("symbol %s has index %#x", y.Name, y.Shndx)
		}
	}
	if _, err := convert([]byte("no module"), section, nil); err == nil {
		t.Error("something that is no module was converted")
	}
}
