// SPDX-License-Identifier: Apache-2.0

package runpre

import (
	"debug/elf"
	"strings"

	"github.com/lupatch/lupatch/internal/elfobj"
	"github.com/lupatch/lupatch/internal/kallsyms"
	"github.com/lupatch/lupatch/internal/refuse"
)

// Found is a symbol as the livepatch core looks it up.
type Found struct {
	Name string
	// Sympos counts from 1 among symbols of one name; 0 if there is only one.
	Sympos int
}

// LocateKernel finds a symbol of vmlinux. One that the translation unit
// defines is told from its namesakes by its place, one that it uses by where
// the shipped code refers to; any other has to be unique, or the only global
// one of its name.
func (r *Result) LocateKernel(syms *kallsyms.Table, name string, local bool) (Found, error) {
	var here []kallsyms.Symbol
	var global []kallsyms.Symbol
	for _, s := range syms.Lookup(name) {
		if s.Module != "" {
			continue
		}
		here = append(here, s)
		if s.Type >= 'A' && s.Type <= 'Z' {
			global = append(global, s)
		}
	}
	if len(here) == 0 {
		return Found{}, refuse.New(refuse.UnresolvedSymbol, name, "the kernel image has no symbol of this name")
	}
	at := func(addr uint64) (Found, bool) {
		pos, n := syms.Sympos(name, addr)
		return Found{name, pos}, n > 0
	}
	if p, ok := r.places[name]; ok && !r.shared[name] && r.Unit == "vmlinux" {
		if f, ok := at(p.addr); ok {
			return f, nil
		}
	}
	if addr, ok := r.extern[name]; ok && !local {
		if f, ok := at(addr); ok {
			return f, nil
		}
	}
	switch {
	case len(here) == 1:
		return Found{Name: name}, nil
	case !local && len(global) == 1:
		f, _ := at(global[0].Addr)
		return f, nil
	}
	return Found{}, refuse.New(refuse.AmbiguousSymbol, name, "%d symbols of the kernel image have this name, and its place does not tell which one is meant", len(here))
}

// LocateModule finds a symbol of the shipped module ko. The livepatch core
// counts namesakes in the order of the module's symbol table, which holds the
// symbols of __init sections while the module is loading and no longer when
// it is live: where the two counts disagree, the symbol is refused.
func (r *Result) LocateModule(ko *elfobj.File, name string, local bool) (Found, error) {
	var all []*elfobj.Symbol
	for _, y := range ko.Symbols {
		if y.Name == name && !y.IsSection() && (y.Section != nil || y.Shndx != elf.SHN_UNDEF) {
			all = append(all, y)
		}
	}
	if len(all) == 0 {
		return Found{}, refuse.New(refuse.UnresolvedSymbol, name, "module %s has no symbol of this name", r.Unit)
	}
	var want *elfobj.Symbol
	p, placed := r.places[name]
	for _, y := range all {
		switch {
		case placed && !r.shared[name] && y.Section != nil && y.Section.Name == p.section && y.Value == p.addr:
			want = y
		case !placed && !local && y.Bind != elf.STB_LOCAL:
			want = y
		}
	}
	if want == nil && len(all) == 1 {
		want = all[0]
	}
	if want == nil {
		return Found{}, refuse.New(refuse.AmbiguousSymbol, name, "%d symbols of module %s have this name, and its place does not tell which one is meant", len(all), r.Unit)
	}
	coming, live, liveAll := 0, 0, 0
	for i, y := range all {
		if stays(y) {
			liveAll++
		}
		if y == want {
			coming, live = i+1, liveAll
		}
	}
	switch {
	case len(all) == 1 && stays(want):
		return Found{Name: name}, nil
	case !stays(want) || coming != live:
		return Found{}, refuse.New(refuse.SymposUnstable, name, "it is number %d of %d while module %s is loading, and number %d of %d when it is live", coming, len(all), r.Unit, live, liveAll)
	}
	return Found{Name: name, Sympos: coming}, nil
}

// stays reports whether a module's symbol is still known when initialisation
// is over: kernel/module/kallsyms.c, is_core_symbol, with CONFIG_KALLSYMS_ALL.
func stays(y *elfobj.Symbol) bool {
	return y.Section != nil && y.Section.Alloc() && !strings.HasPrefix(y.Section.Name, ".init")
}
