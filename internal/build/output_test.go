// SPDX-License-Identifier: Apache-2.0

package build_test

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/lupatch/lupatch/internal/build"
	"github.com/lupatch/lupatch/internal/elfobj"
	"github.com/lupatch/lupatch/internal/kallsyms"
	"github.com/lupatch/lupatch/internal/kbuild"
	"github.com/lupatch/lupatch/internal/manifest"
)

// updateFile is a finished update, read back in two ways.
type updateFile struct {
	bytes []byte
	raw   *elf.File
	obj   *elfobj.File
	man   *manifest.Manifest
	tree  *kbuild.Tree
}

func readUpdate(t *testing.T, res *build.Result) *updateFile {
	t.Helper()
	b, err := os.ReadFile(res.Path)
	if err != nil {
		t.Fatal(err)
	}
	u := &updateFile{bytes: b, tree: realTree(t)}
	if u.raw, err = elf.NewFile(bytes.NewReader(b)); err != nil {
		t.Fatal(err)
	}
	if u.obj, err = elfobj.Read(b); err != nil {
		t.Fatal(err)
	}
	if u.man, err = manifest.FromModule(b); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(res.Manifest, u.man); d != "" {
		t.Errorf("the manifest in the file differs:\n%s", d)
	}
	return u
}

// check holds the module to what the module loader and the livepatch core ask
// of it (kernel/module/main.c, kernel/livepatch/core.c of Linux 6.1).
func (u *updateFile) check(t *testing.T) {
	t.Helper()
	u.checkSections(t)
	u.checkModinfo(t)
	u.checkUndefined(t)
	u.checkLivepatchSymbols(t)
}

func (u *updateFile) checkSections(t *testing.T) {
	symtab := 0
	for i, s := range u.raw.Sections {
		if s.Type == elf.SHT_SYMTAB {
			symtab = i
		}
		if s.Name == ".BTF" || strings.HasPrefix(s.Name, ".debug") || strings.HasPrefix(s.Name, ".rela.debug") || strings.HasPrefix(s.Name, ".gnu.lto") {
			t.Errorf("section %s is left", s.Name)
		}
	}
	if u.raw.Type != elf.ET_REL || symtab == 0 {
		t.Fatalf("type %v, symbol table %d", u.raw.Type, symtab)
	}
	for _, s := range u.raw.Sections {
		if s.Type != elf.SHT_RELA {
			continue
		}
		if int(s.Link) != symtab || s.Info == 0 || int(s.Info) >= len(u.raw.Sections) || s.Entsize != 24 || s.Size%24 != 0 {
			t.Errorf("%s: link %d, info %d, entry size %d, size %d", s.Name, s.Link, s.Info, s.Entsize, s.Size)
			continue
		}
		target := u.raw.Sections[s.Info]
		if s.Flags&elfobj.FlagLivepatch == 0 {
			if s.Name != ".rela"+target.Name {
				t.Errorf("%s applies to %s", s.Name, target.Name)
			}
			continue
		}
		if want := elf.SHF_ALLOC | elf.SHF_INFO_LINK | elfobj.FlagLivepatch; s.Flags != want {
			t.Errorf("%s has flags %#x, want %#x", s.Name, s.Flags, want)
		}
		rest, ok := strings.CutPrefix(s.Name, ".klp.rela.")
		object, section, _ := strings.Cut(rest, ".")
		if !ok || "."+section != target.Name && section != target.Name {
			t.Errorf("%s applies to %s", s.Name, target.Name)
		}
		if !u.patches(object) {
			t.Errorf("%s is for an object that the update does not patch", s.Name)
		}
		if target.Flags&elf.SHF_ALLOC == 0 {
			t.Errorf("%s applies to %s, which is not loaded", s.Name, target.Name)
		}
	}
}

func (u *updateFile) patches(object string) bool {
	for _, x := range u.man.Units {
		if x.Name == object {
			return true
		}
	}
	return object == kbuild.Vmlinux
}

func (u *updateFile) checkModinfo(t *testing.T) {
	info := map[string]string{}
	s := u.obj.Section(".modinfo")
	if s == nil {
		t.Fatal("no .modinfo")
	}
	for _, e := range strings.Split(string(s.Data), "\x00") {
		if k, v, ok := strings.Cut(e, "="); ok {
			info[k] = v
		}
	}
	path, err := u.tree.Shipped(t.Context(), "e1000")
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := elfobj.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if want := "vermagic=" + info["vermagic"] + "\x00"; !bytes.Contains(theirs.Section(".modinfo").Data, []byte(want)) || !strings.HasPrefix(info["vermagic"], release+" ") {
		t.Errorf("vermagic %q is not that of the shipped modules", info["vermagic"])
	}
	if info["livepatch"] != "Y" || info["name"] != u.man.Name || info["license"] != "GPL" {
		t.Errorf("modinfo: %v", info)
	}
	if a, b := u.obj.Section(".gnu.linkonce.this_module"), theirs.Section(".gnu.linkonce.this_module"); a == nil || a.Size != b.Size {
		t.Error("struct module is not that of the shipped modules")
	}
}

// checkUndefined: what the module loader is to resolve is exported by the
// kernel, and its checksum is in __versions.
func (u *updateFile) checkUndefined(t *testing.T) {
	exports, err := u.tree.ModuleSymvers()
	if err != nil {
		t.Fatal(err)
	}
	versions := map[string]uint32{}
	s := u.obj.Section("__versions")
	if s == nil || s.Size == 0 || s.Size%64 != 0 {
		t.Fatal("no readable __versions")
	}
	for d := s.Data; len(d) > 0; d = d[64:] {
		name, _, _ := bytes.Cut(d[8:64], []byte{0})
		versions[string(name)] = uint32(binary.LittleEndian.Uint64(d))
	}
	if versions["module_layout"] != exports["module_layout"].CRC {
		t.Error("the checksum of module_layout is wrong")
	}
	for _, y := range u.obj.Symbols {
		if !y.Undefined() {
			continue
		}
		e, ok := exports[y.Name]
		switch {
		case !ok:
			t.Errorf("%s is exported by nobody", y.Name)
		case e.Module != kbuild.Vmlinux:
			t.Errorf("%s would pin module %s", y.Name, e.Module)
		case versions[y.Name] != e.CRC:
			t.Errorf("%s has checksum %#x, want %#x", y.Name, versions[y.Name], e.CRC)
		}
	}
}

// klpSymbol is the form that klp_resolve_symbols reads.
var klpSymbol = regexp.MustCompile(`^\.klp\.sym\.([^.]{1,55})\.([^,]{1,511}),(\d+)$`)

func (u *updateFile) checkLivepatchSymbols(t *testing.T) {
	_, syms := openImage(t, u.tree)
	seen := 0
	for _, y := range u.obj.Symbols {
		if strings.HasPrefix(y.Name, ".klp.") != (y.Section == nil && y.Shndx == elfobj.ShnLivepatch) {
			t.Errorf("%s has section index %#x", y.Name, y.Shndx)
		}
		if strings.HasPrefix(y.Name, ".lupatch") {
			t.Errorf("%s was not converted", y.Name)
		}
		if y.Shndx == elfobj.ShnLivepatch {
			seen++
			u.resolvable(t, syms, y.Name)
		}
	}
	for _, s := range u.obj.Sections {
		object := ""
		if s.Target != nil {
			object, _, _ = strings.Cut(strings.TrimPrefix(s.Name, ".klp.rela."), ".")
		}
		for _, r := range s.Relocs {
			if (r.Sym.Shndx == elfobj.ShnLivepatch && r.Sym.Section == nil) != (s.Target != nil) {
				t.Errorf("%s refers to %q", s.Name, r.Sym.Name)
			}
			// klp_resolve_symbols: a module's section names no symbol of vmlinux.
			if m := klpSymbol.FindStringSubmatch(r.Sym.Name); m != nil && (m[1] == kbuild.Vmlinux) != (object == kbuild.Vmlinux) {
				t.Errorf("%s refers to %s", s.Name, r.Sym.Name)
			}
		}
	}
	if seen == 0 {
		t.Error("no livepatch symbols at all; choose another change")
	}
}

// resolvable looks a symbol up as the livepatch core will.
func (u *updateFile) resolvable(t *testing.T, syms *kallsyms.Table, name string) {
	m := klpSymbol.FindStringSubmatch(name)
	if m == nil {
		t.Errorf("%q is no livepatch symbol", name)
		return
	}
	pos, err := strconv.Atoi(m[3])
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	if m[1] == kbuild.Vmlinux {
		n = len(syms.Lookup(m[2]))
	} else {
		path, err := u.tree.Shipped(t.Context(), m[1])
		if err != nil {
			t.Error(err)
			return
		}
		ko, err := elfobj.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, y := range ko.Symbols {
			if y.Name == m[2] && y.Section != nil {
				n++
			}
		}
	}
	if pos == 0 && n != 1 || pos > n {
		t.Errorf("%s: there are %d of that name", name, n)
	}
}
