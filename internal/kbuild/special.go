// SPDX-License-Identifier: Apache-2.0

package kbuild

import (
	"bytes"
	"context"
	"debug/elf"
	"fmt"
	"maps"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/lupatch/lupatch/internal/refuse"
)

// ordinary says that a unit becomes code of the running kernel. Others are
// built by the kernel's makefiles, too: the vDSO, the code that wakes further
// processors in real mode, the one between two kernels at kexec. Only the
// kernel's own code is compiled for the kernel's part of the address space.
func (u *TU) ordinary() bool {
	model := ""
	for _, w := range u.Compile {
		if m, ok := strings.CutPrefix(w, "-mcmodel="); ok {
			model = m
		}
	}
	return model == "kernel" && strings.HasSuffix(u.Source, ".c")
}

// bootOnly says that a unit has done its work before the kernel runs.
func bootOnly(u *TU) bool {
	return strings.HasPrefix(u.Source, "arch/x86/boot/") || strings.HasPrefix(u.Source, "drivers/firmware/efi/libstub/")
}

// special refuses a change to code that no livepatch can reach.
func (t *Tree) special(ctx context.Context, tu *TU, ov *Overlay) error {
	if strings.HasSuffix(tu.Source, ".S") {
		return refuse.New(refuse.NoFtraceSite, tu.Source, "the changed header changes this assembly, and assembly has no ftrace sites")
	}
	objs, err := t.CompileAll(ctx, []Job{{TU: tu, Flavor: Shipped}, {TU: tu, Flavor: Shipped, Overlay: ov}})
	if err != nil {
		return err
	}
	same, err := SameContents(objs[0].Path, objs[1].Path)
	if err != nil || same {
		return err
	}
	return refuse.New(refuse.NoFtraceSite, tu.Source, "the changed header changes this code, which runs outside of the kernel and cannot be redirected")
}

// SameContents says whether two objects put the same into memory, relocations
// and symbols included.
func SameContents(a, b string) (bool, error) {
	x, err := contents(a)
	if err != nil {
		return false, err
	}
	y, err := contents(b)
	if err != nil {
		return false, err
	}
	return maps.Equal(x, y), nil
}

func contents(file string) (map[string]string, error) {
	f, err := elf.Open(file)
	if err != nil {
		return nil, fmt.Errorf("comparing objects: %w", err)
	}
	defer f.Close()
	out := map[string]string{}
	for i, s := range f.Sections {
		alloc := s.Flags&elf.SHF_ALLOC != 0
		if s.Type == elf.SHT_RELA || s.Type == elf.SHT_REL {
			alloc = int(s.Info) < len(f.Sections) && f.Sections[s.Info].Flags&elf.SHF_ALLOC != 0
		}
		if !alloc && s.Type != elf.SHT_SYMTAB && s.Type != elf.SHT_STRTAB {
			continue
		}
		key := fmt.Sprintf("%d %s", i, s.Name)
		if s.Type == elf.SHT_NOBITS {
			out[key] = fmt.Sprint(s.Size)
			continue
		}
		text, err := s.Data()
		if err != nil {
			return nil, fmt.Errorf("comparing objects: %w", err)
		}
		out[key] = string(text)
	}
	return out, nil
}

// offsetSources are compiled for constants that assembly is then given
// (Kbuild, "asm-offsets"); the makefiles' own run is over before files are built.
var offsetSources = []string{"arch/x86/kernel/asm-offsets.c", "kernel/bounds.c"}

// scripted are headers from which the build makes sources by a script
// (arch/x86/kernel/cpu/Makefile): their comments count.
var scripted = []string{"arch/x86/include/asm/cpufeatures.h", "arch/x86/include/asm/vmxfeatures.h"}

// offsetsSame refuses a change that alters what the build makes of headers
// before it compiles anything.
func (t *Tree) offsetsSame(ctx context.Context, ov *Overlay, files []string) error {
	if t.Kind == KindModule {
		return nil
	}
	for _, f := range files {
		if slices.Contains(scripted, f) {
			return refuse.New(refuse.HeaderScope, f, "the kernel's build makes tables from this header by a script, and they are already in use")
		}
	}
	g, l, err := t.graph(ctx)
	if err != nil {
		return err
	}
	reached := g.reached(t.paths(files))
	for _, src := range offsetSources {
		if id, ok := g.ids[filepath.Join(t.Src, src)]; !ok || !reached[id] {
			continue
		}
		tu, err := t.neighbour(l, src)
		if err != nil {
			return err
		}
		if tu == nil {
			continue
		}
		old, err := t.constants(ctx, tu, nil)
		if err != nil {
			return err
		}
		new, err := t.constants(ctx, tu, ov)
		if err != nil {
			return err
		}
		if !slices.Equal(old, new) {
			return refuse.New(refuse.HeaderScope, files[0], "constants that assembly and all of the kernel were built with are made from it (%s)", src)
		}
	}
	return nil
}

// neighbour gives a source the flags of another of its folder.
func (t *Tree) neighbour(l *listing, src string) (*TU, error) {
	if !exists(filepath.Join(t.Src, src)) {
		return nil, nil
	}
	var beside []string
	for s := range l.Sources {
		if path.Dir(s) == path.Dir(src) {
			beside = append(beside, s)
		}
	}
	slices.Sort(beside)
	for _, s := range beside {
		tu, err := t.candidate(l, l.Sources[s])
		if err != nil {
			return nil, err
		}
		if tu.ordinary() && !slices.Contains(tu.Compile, "-DMODULE") {
			tu.Compile = append(slices.Clone(tu.Compile[:len(tu.Compile)-1]), filepath.Join(t.Src, src))
			tu.Source = src
			return tu, nil
		}
	}
	return nil, nil
}

// constants compiles a file of constants and gives them as its lines have them.
func (t *Tree) constants(ctx context.Context, tu *TU, ov *Overlay) ([]string, error) {
	inv := t.invoke(tu, ov, nil)
	if _, _, err := inv.preprocess(ctx); err != nil { // settles the overlay
		return nil, err
	}
	text, log, err := inv.run(ctx, "-S", "-o", "-", inv.src)
	if err != nil {
		return nil, inv.failed(ctx, log, err)
	}
	var out []string
	for line := range bytes.Lines(text) {
		if bytes.Contains(line, []byte(`"->`)) {
			out = append(out, string(line))
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("reading the constants of %s: there are none", tu.Source)
	}
	return out, nil
}

// replaceRoot names files in a text by their places in the source.
func replaceRoot(text []byte, from, to string) []byte {
	return bytes.ReplaceAll(text, []byte(from+"/"), []byte(to+"/"))
}
