// SPDX-License-Identifier: Apache-2.0

package runpre

import (
	"debug/elf"
	"fmt"
	"maps"

	"github.com/lupatch/lupatch/internal/elfobj"
)

// Module holds the object of a translation unit, compiled with unaltered
// flags, against the shipped module it is linked into.
func Module(name string, obj, ko *elfobj.File) (*Result, error) {
	if err := sound(obj); err != nil {
		return nil, err
	}
	m := &module{
		ko: ko, bySec: map[string]*elfobj.Section{}, bases: map[*elfobj.Section]uint64{}, byName: map[string][]*elfobj.Symbol{},
		res: &Result{Unit: name, places: map[string]place{}, extern: map[string]uint64{}, shared: ambiguousNames(obj)},
	}
	for _, s := range ko.Sections {
		if m.bySec[s.Name] == nil {
			m.bySec[s.Name] = s
		}
	}
	for _, y := range ko.Symbols {
		if named(y) {
			m.byName[y.Name] = append(m.byName[y.Name], y)
		}
	}
	m.vote(obj)
	// Functions whose section no name places come last: code that refers to
	// them may place it.
	var unplaced []*elfobj.Symbol
	for _, fn := range functions(obj) {
		if _, ok := m.bases[fn.Section]; ok {
			m.function(fn)
		} else {
			unplaced = append(unplaced, fn)
		}
	}
	for _, fn := range unplaced {
		m.function(fn)
	}
	for _, y := range obj.Symbols {
		if base, ok := m.bases[y.Section]; ok && named(y) {
			m.res.places[y.Name] = place{section: y.Section.Name, addr: base + y.Value}
		}
	}
	return m.res, nil
}

type module struct {
	ko     *elfobj.File
	bySec  map[string]*elfobj.Section
	byName map[string][]*elfobj.Symbol
	bases  map[*elfobj.Section]uint64
	res    *Result
}

func (m *module) vote(obj *elfobj.File) {
	votes := map[*elfobj.Section]map[uint64]int{}
	for _, y := range obj.Symbols {
		// What has no size (a lock class without lockdep) may share its place
		// with anything.
		if !named(y) || !y.Section.Alloc() || y.Size == 0 && y.Type == elf.STT_OBJECT {
			continue
		}
		for _, s := range m.byName[y.Name] {
			if s.Section.Name != y.Section.Name || s.Size != y.Size && y.Type == elf.STT_OBJECT {
				continue
			}
			if votes[y.Section] == nil {
				votes[y.Section] = map[uint64]int{}
			}
			votes[y.Section][s.Value-y.Value]++
		}
	}
	for s, v := range votes {
		// Without a clear answer the first reference places the section.
		if base, _, only := majority(v); only {
			m.bases[s] = base
		}
	}
}

func (m *module) mismatch(fn *elfobj.Symbol, off uint64, format string, args ...any) {
	m.res.Mismatches = append(m.res.Mismatches, Mismatch{Function: fn.Name, Offset: off, What: fmt.Sprintf(format, args...)})
}

// find is the shipped function at the place that fn's neighbours say.
func (m *module) find(fn *elfobj.Symbol) *elfobj.Symbol {
	for _, s := range m.byName[fn.Name] {
		if s.Section.Name == fn.Section.Name && s.Value == m.bases[fn.Section]+fn.Value {
			return s
		}
	}
	return nil
}

func (m *module) function(fn *elfobj.Symbol) {
	theirs := m.find(fn)
	if theirs == nil && fn.Bind == elf.STB_WEAK && len(m.byName[fn.Name]) > 0 {
		m.res.Overridden = append(m.res.Overridden, fn.Name)
		return
	}
	m.res.Functions++
	if _, placed := m.bases[fn.Section]; theirs == nil && !placed && m.oneOf(fn, m.byName[fn.Name]) {
		m.res.Verified++
		return
	}
	if theirs == nil {
		if len(m.byName[fn.Name]) == 1 {
			theirs = m.byName[fn.Name][0] // to say more than that it moved
		} else {
			m.mismatch(fn, 0, "the shipped module has no such function at its place")
			return
		}
	}
	off, what := m.compare(fn, theirs)
	switch {
	case what != "":
		m.mismatch(fn, off, "%s", what)
	case m.find(fn) == nil:
		m.mismatch(fn, 0, "the same function is at another place than its neighbours say")
	default:
		m.res.Verified++
	}
}

// oneOf reports whether the function is the same as one of several. Nothing
// says which, when nothing refers to it; so nothing is learnt from it either.
func (m *module) oneOf(fn *elfobj.Symbol, candidates []*elfobj.Symbol) bool {
	known := maps.Clone(m.bases)
	defer func() { m.bases = known }()
	for _, c := range candidates {
		m.bases = maps.Clone(known)
		if _, what := m.compare(fn, c); what == "" && c.Section.Name == fn.Section.Name {
			return true
		}
	}
	return false
}

// compare says where and how a function differs from a shipped one; what is
// empty if it does not.
func (m *module) compare(fn, theirs *elfobj.Symbol) (off uint64, what string) {
	if theirs.Value+theirs.Size > uint64(len(theirs.Section.Data)) {
		return 0, "the shipped module's symbol table is damaged"
	}
	ours, shipped := code(fn.Section, fn.Value, fn.Size), code(theirs.Section, theirs.Value, theirs.Size)
	ra, rb := fn.Section.RelocsIn(fn.Value, fn.Value+fn.Size), theirs.Section.RelocsIn(theirs.Value, theirs.Value+theirs.Size)
	d := firstDiff(ours, shipped)
	for i := range min(len(ra), len(rb)) {
		a, b := ra[i], rb[i]
		off := a.Off - fn.Value
		if d >= 0 && off > uint64(d) {
			break
		}
		if off != b.Off-theirs.Value || elfobj.Width(a.Type) != elfobj.Width(b.Type) {
			return min(off, b.Off-theirs.Value), "the code differs"
		}
		if what := m.reloc(a, b); what != "" {
			return off, what
		}
	}
	switch {
	case d >= 0 && fn.Size != theirs.Size:
		return uint64(d), fmt.Sprintf("the code differs: %d bytes, shipped %d", fn.Size, theirs.Size)
	case d >= 0:
		return uint64(d), "the code differs"
	case len(ra) != len(rb):
		return 0, fmt.Sprintf("%d relocations, shipped %d", len(ra), len(rb))
	}
	return 0, ""
}

// reloc compares what two relocations at the same place refer to.
func (m *module) reloc(a, b elfobj.Reloc) string {
	x, y := a.Sym, b.Sym
	if x.Section == nil {
		if x.Name != y.Name || a.Addend != b.Addend {
			return fmt.Sprintf("it refers to %s, shipped to %s", x.Name, display(y))
		}
		return ""
	}
	if x.Bind == elf.STB_WEAK && x.Name == y.Name && a.Addend == b.Addend {
		return "" // another unit of the module may have the strong one
	}
	offA, offB := int64(x.Value)+a.Addend, int64(y.Value)+b.Addend
	if y.Section == nil || x.Section.Name != y.Section.Name {
		return fmt.Sprintf("it refers to %s, shipped to %s", display(x), display(y))
	}
	if x.Section.Flags&elf.SHF_MERGE != 0 {
		return mergedModule(a, x.Section, y.Section, offA, offB)
	}
	base, ok := m.bases[x.Section]
	if !ok {
		m.bases[x.Section] = uint64(offB - offA)
		return ""
	}
	if int64(base)+offA != offB {
		return fmt.Sprintf("it refers to %s%+d, shipped to %s%+d", display(x), a.Addend, display(y), b.Addend)
	}
	return ""
}

func display(y *elfobj.Symbol) string {
	if y.Name == "" && y.Section != nil {
		return y.Section.Name
	}
	return y.Name
}

func mergedModule(r elfobj.Reloc, a, b *elfobj.Section, offA, offB int64) string {
	if elfobj.PCRelative(r.Type) {
		offA, offB = offA+4, offB+4
	}
	if a.Strings() {
		sa, okA := a.CString(uint64(offA))
		sb, okB := b.CString(uint64(offB))
		if !okA || !okB || sa != sb {
			return fmt.Sprintf("the string %q, shipped %q", sa, sb)
		}
		return ""
	}
	n := int64(a.Entsize)
	if offA < 0 || offB < 0 || offA+n > int64(len(a.Data)) || offB+n > int64(len(b.Data)) || string(a.Data[offA:offA+n]) != string(b.Data[offB:offB+n]) {
		return "a constant differs in " + a.Name
	}
	return ""
}
