// SPDX-License-Identifier: Apache-2.0

package disasm

import (
	"context"
	"debug/elf"
	"fmt"

	"github.com/lupatch/lupatch/internal/deb"
	"github.com/lupatch/lupatch/internal/elfobj"
	"github.com/lupatch/lupatch/internal/kallsyms"
	"github.com/lupatch/lupatch/internal/kmodule"
	"github.com/lupatch/lupatch/internal/manifest"
	"github.com/lupatch/lupatch/internal/refuse"
)

// Update disassembles every function of an update. The shipped code comes
// from the kernel installed on this host or, if that is another release, from
// the distribution's image package.
func Update(ctx context.Context, file []byte) ([]Function, error) {
	man, err := manifest.FromModule(file)
	if err != nil {
		return nil, err
	}
	ko, err := elfobj.Read(manifest.Unsigned(file))
	if err != nil {
		return nil, refuse.New(refuse.NotAnUpdate, man.Name, "%v", err)
	}
	cache, err := deb.New("")
	if err != nil {
		return nil, err
	}
	kernel, err := cache.KernelImage(ctx, man.Release)
	if err != nil {
		return nil, err
	}
	var out []Function
	for _, u := range man.Units {
		old, err := openUnit(kernel, u.Name)
		if err != nil {
			return nil, err
		}
		for _, f := range u.Functions {
			fn := Function{Unit: u.Name, Name: f.Name}
			var before []line
			if !f.New {
				if before, err = old(f); err != nil {
					return nil, err
				}
			}
			after, err := newCode(ko, f)
			if err != nil {
				return nil, err
			}
			fn.Lines = align(before, after)
			out = append(out, fn)
		}
	}
	return out, nil
}

// newCode finds a function in the update. Its symbol keeps the shipped name.
func newCode(ko *elfobj.File, f manifest.Function) ([]line, error) {
	for _, y := range ko.Symbols {
		if y.Name == f.Name && y.Type == elf.STT_FUNC && y.Section != nil && y.Value+y.Size <= uint64(len(y.Section.Data)) {
			return fromSection(ko, y.Section, y.Value, y.Size).text(), nil
		}
	}
	return nil, refuse.New(refuse.NotAnUpdate, f.Name, "the manifest names the function, but the update does not hold it")
}

// openUnit gives a way to disassemble the shipped functions of a unit.
func openUnit(k *deb.Kernel, unit string) (func(manifest.Function) ([]line, error), error) {
	if unit == "vmlinux" {
		im, err := kallsyms.Open(k.Vmlinuz())
		if err != nil {
			return nil, err
		}
		syms, err := im.Symbols()
		if err != nil {
			return nil, err
		}
		return func(f manifest.Function) ([]line, error) { return imageCode(im, syms, f) }, nil
	}
	tree, err := kmodule.Open(k.Modules())
	if err != nil {
		return nil, err
	}
	m, err := tree.Load(unit)
	if err != nil {
		return nil, err
	}
	ko, err := elfobj.Read(m.Image)
	if err != nil {
		return nil, fmt.Errorf("reading the shipped module %s: %w", unit, err)
	}
	return func(f manifest.Function) ([]line, error) { return moduleCode(ko, f) }, nil
}

func imageCode(im *kallsyms.Image, syms *kallsyms.Table, f manifest.Function) ([]line, error) {
	var here []kallsyms.Symbol
	for _, s := range syms.Lookup(f.Name) {
		if s.Module == "" {
			here = append(here, s)
		}
	}
	i := max(f.Sympos-1, 0)
	if i >= len(here) {
		return nil, refuse.New(refuse.UnresolvedSymbol, f.Name, "the kernel image has %d symbols of this name, the update means number %d", len(here), f.Sympos)
	}
	b, err := im.ReadAt(here[i].Addr, int(f.OldSize))
	if err != nil {
		return nil, err
	}
	c := code{bytes: b, addr: here[i].Addr, names: func(addr uint64) (string, uint64) {
		if s, off, ok := syms.Containing(addr); ok && addr > 0xffffffff80000000 {
			return s.Name, addr - off
		}
		return "", 0
	}}
	return c.text(), nil
}

func moduleCode(ko *elfobj.File, f manifest.Function) ([]line, error) {
	pos := 0
	for _, y := range ko.Symbols {
		if y.Name != f.Name || y.IsSection() || y.Section == nil {
			continue
		}
		pos++
		if pos >= f.Sympos && y.Value+f.OldSize <= uint64(len(y.Section.Data)) {
			return fromSection(ko, y.Section, y.Value, f.OldSize).text(), nil
		}
	}
	return nil, refuse.New(refuse.UnresolvedSymbol, f.Name, "the shipped module does not have it")
}
