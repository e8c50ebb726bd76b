// SPDX-License-Identifier: Apache-2.0

package patchgen

import (
	"debug/elf"
	"slices"

	"github.com/lupatch/lupatch/internal/elfobj"
)

// promote deals with changed functions that have no ftrace site. The kernel's
// headers make every inline function notrace, so that the clones that gcc keeps
// of them have none; nor have whole folders, such as lib. Such a function can
// still be exchanged if nothing but other functions branches to it: those are
// replaced too, and call a copy of it in the update. Of a global one that takes
// the callers in other units as well; those not in Moved yet are given back. What
// cannot be exchanged that way is left for checkSites to refuse.
func promote(in *Input, old, new *object, sp []special) (untraced []string, err error) {
	sites, err := ftraceSites(old, sp)
	if err != nil {
		return nil, err
	}
	var before, after map[*item]*uses
	for more := true; more; {
		more = false
		for _, it := range new.items {
			if !it.needsSite() || sites[it.twin] || it.global() != it.twin.global() || it.global() && !it.mayMove() {
				continue
			}
			if before == nil {
				before, after = old.uses(), new.uses()
			}
			a, b := before[it.twin], after[it]
			if it.global() && (a.elsewhere() || b.elsewhere()) || !it.global() && (!a.onlyBranches() || !b.onlyBranches()) {
				continue
			}
			if it.global() && !slices.Contains(in.Moved, it.name) {
				if !slices.Contains(untraced, it.name) {
					untraced = append(untraced, it.name)
				}
				continue
			}
			it.promoted, more = true, true
			if b == nil {
				continue
			}
			if err := replaceCallers(in, it.name, b.from); err != nil {
				return nil, err
			}
		}
	}
	slices.Sort(untraced)
	for _, it := range new.items {
		if it.needsSite() && !sites[it.twin] && !slices.Contains(untraced, it.name) {
			return nil, nil // it is refused anyway: no need to look for anything
		}
	}
	return untraced, nil
}

// needsSite reports whether a function is to be redirected.
func (it *item) needsSite() bool {
	return it.kind == function && it.twin != nil && it.changed && !it.promoted && it.parent == nil && it.life == always && it.twin.life == always && !it.registry
}

// copy has the update carry unchanged functions along. One that changes is
// redirected, and what calls it calls the new version in any case.
func (p *plan) copy(names []string) {
	for _, it := range p.new.items {
		if it.kind == function && it.twin != nil && !it.changed && !it.global() && it.parent == nil && it.life == always && slices.Contains(names, it.name) {
			it.promoted = true
		}
	}
}

// uses are the references to a function.
type uses struct {
	from  map[*item]bool // functions that branch to it
	other []string       // what else refers to it
}

func (u *uses) onlyBranches() bool { return u != nil && len(u.other) == 0 && len(u.from) > 0 }

// elsewhere reports that more than branches refer to it.
func (u *uses) elsewhere() bool { return u != nil && len(u.other) > 0 }

// uses collects who refers to each function.
func (o *object) uses() map[*item]*uses {
	out := map[*item]*uses{}
	of := func(it *item) *uses {
		if out[it] == nil {
			out[it] = &uses{from: map[*item]bool{}}
		}
		return out[it]
	}
	for _, from := range o.items {
		if from.registry && isExport(from.sec.Name) {
			continue // who uses the export is looked for
		}
		for _, r := range from.relocs() {
			t, err := o.resolve(from, r)
			if err != nil || t.item == nil || t.item.kind != function || t.item == from {
				continue
			}
			to := t.item
			if to.parent != nil {
				continue // a part is entered from its function only
			}
			in, ok := from.insnAt(r.Off)
			switch caller := from; {
			case from.kind == function && ok && in.branch():
				if caller.parent != nil {
					caller = caller.parent
				}
				if caller != to {
					of(to).from[caller] = true
				}
			default:
				of(to).other = append(of(to).other, from.name)
			}
		}
	}
	// Alternatives may call it from code that is put in place at load.
	for _, s := range o.file.Sections {
		if s.Name != altReplacement {
			continue
		}
		for _, r := range s.Relocs {
			if t, ok := o.called(r); ok {
				of(t).other = append(of(t).other, altReplacement)
			}
		}
	}
	return out
}

// called finds the function that a relative reference outside of items means.
func (o *object) called(r elfobj.Reloc) (*item, bool) {
	if r.Sym.Section == nil || r.Sym.Section.Flags&elf.SHF_EXECINSTR == 0 {
		return nil, false
	}
	if it := o.bySym[r.Sym]; it != nil && !r.Sym.IsSection() {
		return it, true
	}
	it := o.in(r.Sym.Section, uint64(int64(r.Sym.Value)+r.Addend+4))
	return it, it != nil && it.kind == function
}
