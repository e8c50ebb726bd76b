// SPDX-License-Identifier: Apache-2.0

package patchgen

import (
	"sort"

	"github.com/lupatch/lupatch/internal/elfobj"
	"github.com/lupatch/lupatch/internal/refuse"
)

// plan is what the update will hold of one translation unit.
type plan struct {
	old, new *object
	// wishes are the author's; writes and kept say what becomes of variables
	// whose initial value changed.
	wishes *wishes
	writes []write
	kept   []DataChange
	// stack is set if the update stands on others; told is as in it.
	stack *stack
	told  map[*elfobj.Symbol]string
	// redirected are the functions, of the new version, that take the place
	// of their twins.
	redirected []*item
	// carried is everything the update holds, redirected functions included.
	carried []*item
	// alreadyRan names changed code that has run and is gone.
	alreadyRan []string
	// untraced are global functions that only their callers can exchange.
	untraced []string
}

// include decides what has to come along: changed functions, new functions
// that others of the patch may call, and whatever those need that the running
// kernel does not have.
func (p *plan) include(in *Input, sp []special) error {
	if err := recall(in, p.old, p.new); err != nil {
		return err
	}
	var err error
	if p.untraced, err = promote(in, p.old, p.new, sp); err != nil {
		return err
	}
	if len(p.untraced) > 0 {
		if p.stack != nil {
			return untracedBelow(p.untraced)
		}
		return nil
	}
	p.copy(in.Copies)
	var roots []*item
	for _, it := range p.new.items {
		if it.kind != function || it.registry || it.parent != nil {
			continue
		}
		switch {
		case it.promoted && it.global():
			roots = append(roots, it)
		case it.twin != nil && !p.wanted(it), it.promoted:
		case it.life == initOnly || it.twin != nil && it.twin.life == initOnly:
			if it.twin != nil {
				p.alreadyRan = append(p.alreadyRan, it.name)
			}
		case it.twin != nil && it.twin.life == exitOnly:
			return refuse.New(refuse.NoFtraceSite, it.name, "the function is __exit code, which is not traced")
		case it.twin != nil:
			p.redirected = append(p.redirected, it)
			roots = append(roots, it)
		case it.global() && !(p.inherited(it) && !p.stack.all && !p.stack.changed[it.sym]):
			roots = append(roots, it)
		}
	}
	for _, kind := range CallbackKinds {
		if it := p.wishes.callbacks[kind]; it != nil {
			roots = append(roots, it)
		}
	}
	for _, it := range p.new.items {
		if it.kind == data && it.twin == nil && it.global() && !it.registry && it.life == always && !p.inherited(it) && len(roots)+len(p.writes) > 0 {
			roots = append(roots, it)
		}
	}
	sort.Strings(p.alreadyRan)
	for _, it := range roots {
		if err := p.visit(it); err != nil {
			return err
		}
	}
	if err := p.visitWritten(); err != nil {
		return err
	}
	if err := p.followEntries(sp); err != nil {
		return err
	}
	inFileOrder(p.new, p.carried)
	inFileOrder(p.new, p.redirected)
	return nil
}

// visitWritten takes along what new values of variables point to.
func (p *plan) visitWritten() error {
	for _, w := range p.writes {
		for _, r := range w.relocs() {
			t, err := p.new.resolve(w.item, r)
			if err != nil {
				return err
			}
			if t.item != nil && p.follows(t.item, nil) {
				if err := p.visit(t.item); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// followEntries takes along what only the entries of special sections refer
// to, such as the file name of a WARN(), until nothing more is needed.
func (p *plan) followEntries(sp []special) error {
	for n := -1; n != len(p.carried); {
		n = len(p.carried)
		es, err := entries(p.new, sp, func(it *item) bool { return it.included })
		if err != nil {
			return err
		}
		for _, e := range es {
			for _, r := range e.relocs() {
				t, err := p.new.resolve(nil, r)
				if err != nil || t.item == nil || t.item.kind == function || !p.follows(t.item, nil) {
					continue
				}
				if err := p.visit(t.item); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// visit takes it along and everything that has to follow.
func (p *plan) visit(it *item) error {
	if it.included {
		return nil
	}
	if err := p.mayCarry(it); err != nil {
		return err
	}
	it.included = true
	p.carried = append(p.carried, it)
	for _, part := range it.parts {
		if err := p.visit(part); err != nil {
			return err
		}
	}
	for _, r := range it.relocs() {
		t, err := p.new.resolve(it, r)
		if err != nil {
			return err
		}
		if t.item != nil && p.follows(t.item, it) {
			if err := p.visit(t.item); err != nil {
				return err
			}
		}
	}
	return nil
}

// follows reports whether t, to which from refers, is carried along instead
// of being taken from the running kernel. A function that exists there is
// always reached at its shipped entry, whether it is replaced or not: so no
// pointer into the update stays behind, and a later update of it is honoured.
func (p *plan) follows(t, from *item) bool {
	switch {
	case private(t):
		return true
	case t.kind == function:
		return t.twin == nil || t.promoted || t.parent != nil && t.parent == from
	default:
		return t.twin == nil || t.changed && copyable(t) && copyable(t.twin)
	}
}

// mayCarry refuses what cannot live in an update.
func (p *plan) mayCarry(it *item) error {
	if it.registry {
		return refuse.New(refuse.SpecialSection, it.name, "new entry in section %s, which the kernel reads only at boot or at module load", it.sec.Name)
	}
	if it.life != always && it.kind != anonymous {
		return refuse.New(refuse.OnlyInit, it.name, "changed code needs it, but it lies in %s and is freed after initialisation", it.sec.Name)
	}
	if it.sec.Name == btfSection {
		return refuse.New(refuse.SpecialSection, it.name, "the numbers of types in %s are filled in when the kernel is linked", it.sec.Name)
	}
	if percpu(it) && len(it.relocs()) > 0 {
		return refuse.New(refuse.SpecialSection, it.name, "new per-CPU data begins with addresses, and the module loader fills in none there")
	}
	if it.kind == function {
		return p.new.movable(it)
	}
	if err := p.mayCopy(it); err != nil {
		return err
	}
	if it.kind == data && it.twin == nil && !private(it) {
		// A namesake in the old version that found no twin may be this one.
		for _, o := range p.old.items {
			if o.kind == data && o.twin == nil && !private(o) && baseName(o) == baseName(it) {
				return refuse.New(refuse.AmbiguousSymbol, it.name, "several static variables of this name exist and it cannot be told which one of the running kernel is meant")
			}
		}
	}
	return nil
}

// inFileOrder sorts items by their place in the object, which makes the
// result the same every time.
func inFileOrder(o *object, list []*item) {
	pos := map[any]int{}
	for i, s := range o.file.Sections {
		pos[s] = i
	}
	sort.SliceStable(list, func(i, j int) bool {
		a, b := list[i], list[j]
		if a.sec != b.sec {
			return pos[a.sec] < pos[b.sec]
		}
		return a.off < b.off
	})
}
