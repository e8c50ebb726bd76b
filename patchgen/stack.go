// SPDX-License-Identifier: Apache-2.0

package patchgen

import (
	"maps"
	"slices"
	"strings"

	"github.com/lupatch/lupatch/internal/elfobj"
	"github.com/lupatch/lupatch/internal/refuse"
)

// Stacked says that the update stands on others. Input.Old is the shipped
// version all the same: that is what the kernel has symbols of, and at whose
// entries functions are redirected. Which of them, InForce decides.
type Stacked struct {
	// InForce is the version that the earlier updates have brought into force,
	// compiled like the others.
	InForce *elfobj.File
	// Lines and OldLines are as in Input, of InForce.
	Lines    *LineMap
	OldLines Extents
	// All has the update carry whatever differs from the shipped version, too:
	// a superset of what it stands on.
	All bool
}

// stack is how the new version stands to the one in force.
type stack struct {
	all bool
	// changed are functions that differ from what is in force; fresh is what is
	// not in force at all.
	changed, fresh map[*elfobj.Symbol]bool
	// promoted are changed functions that no redirection reaches, see promote.
	promoted map[*elfobj.Symbol]bool
	// sited are functions that have an ftrace site in the running kernel.
	sited map[*elfobj.Symbol]bool
	// told says in words how variables' initial values differ.
	told map[*elfobj.Symbol]string
}

// differences compares the version in force with the new one. old and base are
// the shipped and the new version as they are compared with each other.
func (s *Stacked) differences(in *Input, old, base *object, sp []special) (*stack, error) {
	prev, next := view(s.InForce, sp), view(in.New, sp)
	correlate(prev, next)
	earlier, err := wishesOf(prev)
	if err != nil {
		return nil, err
	}
	for _, kind := range CallbackKinds {
		if it := earlier.callbacks[kind]; it != nil {
			return nil, refuse.New(refuse.EarlierUpdate, it.name, "it is a callback of an earlier update in the same file, and would be called a second time")
		}
	}
	asked, err := wishesOf(next)
	if err != nil {
		return nil, err
	}
	if err := asked.mark(prev); err != nil {
		return nil, err
	}
	pinRuled(in.Data, prev)
	c := &comparer{old: prev, new: next, lines: s.Lines, same: map[[2]*item]bool{}}
	if s.OldLines != nil {
		c.extent = s.OldLines.extent
	}
	c.compare()
	p := &plan{old: prev, new: next, wishes: asked, told: map[*elfobj.Symbol]string{}}
	if err := p.changes(c, in); err != nil {
		return nil, err
	}
	untraced, err := promote(in, prev, next, sp)
	if err != nil {
		return nil, err
	}
	if err := untracedBelow(untraced); err != nil {
		return nil, err
	}
	if err := s.checkIdentity(in.Old, next, base, sp); err != nil {
		return nil, err
	}
	if err := s.spread(prev, next, base); err != nil {
		return nil, err
	}
	sites, err := ftraceSites(old, sp)
	if err != nil {
		return nil, err
	}
	out := &stack{all: s.All, changed: map[*elfobj.Symbol]bool{}, fresh: map[*elfobj.Symbol]bool{}, promoted: map[*elfobj.Symbol]bool{}, sited: map[*elfobj.Symbol]bool{}, told: p.told}
	for _, it := range base.items {
		if it.sym != nil && it.twin != nil {
			out.sited[it.sym] = sites[it.twin]
		}
	}
	for _, it := range next.items {
		switch {
		case it.sym == nil:
		case it.twin == nil:
			out.fresh[it.sym] = it.kind == function || !namesake(prev, it)
		case it.kind == function:
			out.changed[it.sym], out.promoted[it.sym] = it.changed, it.promoted
		}
	}
	return out, nil
}

// untracedBelow refuses functions that are exchanged by their callers in all units:
// which version each of these calls would be for every update of the stack to say.
func untracedBelow(names []string) error {
	if len(names) == 0 {
		return nil
	}
	e := refuse.New(refuse.EarlierUpdate, names[0], "it has no ftrace site, so that all its callers are exchanged, and that is not done on top of other updates, nor below them")
	e.Remedy = "roll the earlier updates back and put the changes into one"
	return e
}

// namesake reports a variable of the version in force that found no twin and
// may be this one.
func namesake(prev *object, it *item) bool {
	return slices.ContainsFunc(prev.items, func(o *item) bool {
		return o.kind == data && o.twin == nil && !private(o) && baseName(o) == baseName(it)
	})
}

// checkIdentity: what something is in the shipped version must not depend on
// whether it is looked for directly or by way of the version in force. It is by
// that way that earlier updates have found it.
func (s *Stacked) checkIdentity(shipped *elfobj.File, next, base *object, sp []special) error {
	first, then := view(shipped, sp), view(s.InForce, sp)
	correlate(first, then)
	symOf := func(it *item) *elfobj.Symbol {
		if it == nil {
			return nil
		}
		return it.sym
	}
	for _, it := range next.items {
		if it.sym == nil || it.twin == nil || it.parent != nil || it.life != always || private(it) {
			continue
		}
		direct, inForce := base.bySym[it.sym], then.bySym[it.twin.sym]
		if direct == nil || inForce == nil || symOf(direct.twin) == symOf(inForce.twin) {
			continue
		}
		return refuse.New(refuse.AmbiguousSymbol, it.name, "several of this name exist, and the updates below mean another one of the running kernel by it")
	}
	return nil
}

// spread deals with changed functions that an earlier update has added. Nothing
// redirects those: what calls them has to be exchanged with them, and calls a
// copy in the new update. It cannot be if others know their address.
func (s *Stacked) spread(prev, next, base *object) error {
	var before, after map[*item]*uses
	done := map[*item]bool{}
	for more := true; more; {
		more = false
		for _, it := range next.items {
			if it.kind != function || it.twin == nil || !it.changed || it.parent != nil || it.life != always || done[it] {
				continue
			}
			if b := base.bySym[it.sym]; b == nil || b.twin != nil {
				continue
			}
			done[it], more = true, true
			if before == nil {
				before, after = prev.uses(), next.uses()
			}
			if (it.global() || it.twin.global()) && !s.All {
				e := refuse.New(refuse.EarlierUpdate, it.name, "an earlier update has added this function, and code of its other files may call it")
				e.Remedy = "build it with --cumulative, which carries those files too"
				return e
			}
			was, is := before[it.twin], after[it]
			if was.elsewhere() || is.elsewhere() {
				return refuse.New(refuse.EarlierUpdate, it.name, "an earlier update has added this function and put its address somewhere: what is called there would stay as it was")
			}
			if is == nil {
				continue
			}
			for caller := range is.from {
				if caller.twin != nil {
					caller.changed, caller.twin.changed = true, true
				}
			}
		}
	}
	return nil
}

// wanted reports whether a function that the running kernel has is to be
// redirected, or would be if that were possible.
func (p *plan) wanted(it *item) bool {
	switch {
	case p.stack == nil:
		return it.changed
	case it.sym == nil || p.stack.promoted[it.sym]:
		return false
	case p.stack.changed[it.sym]:
		return true
	case p.stack.fresh[it.sym]:
		// An update further down may have redirected it before one above that
		// did away with it.
		return it.changed || p.stack.sited[it.sym]
	}
	return it.changed && p.stack.all
}

// inherited reports what an earlier update has added to the unit.
func (p *plan) inherited(it *item) bool {
	return p.stack != nil && it.sym != nil && it.twin == nil && !private(it) && !p.stack.fresh[it.sym]
}

// mayCopy refuses what is in force in one copy, in the module of an earlier
// update.
func (p *plan) mayCopy(it *item) error {
	if it.kind != data || !p.inherited(it) || !it.sec.Writable() && !percpu(it) {
		return nil
	}
	e := refuse.New(refuse.EarlierUpdate, it.name, "an earlier update has added this variable; only its module holds it, and a copy would have a value of its own")
	e.Remedy = "roll the earlier update back and put both changes into one, or keep what is new in shadow variables (klp_shadow_alloc), which any update can find"
	return e
}

// tell notes how an initial value differs, or refuses one on which an earlier
// update has had its say.
func (p *plan) tell(it *item, what []string) error {
	text := strings.Join(what, "\n")
	if p.told != nil {
		p.told[it.twin.sym] = text
	}
	if p.stack == nil {
		return nil
	}
	if p.stack.told[it.twin.sym] != text {
		return changedTwice(it.name)
	}
	delete(p.stack.told, it.twin.sym)
	return nil
}

// checkUntold refuses values that go back to the shipped ones.
func (p *plan) checkUntold() error {
	if p.stack == nil || len(p.stack.told) == 0 {
		return nil
	}
	var names []string
	for y := range maps.Keys(p.stack.told) {
		names = append(names, y.Name)
	}
	return changedTwice(slices.Min(names))
}

func changedTwice(name string) error {
	e := refuse.New(refuse.EarlierUpdate, name, "its initial value differs from the one of an earlier update, and that from the shipped one")
	e.Remedy = "roll the earlier update back and put both changes into one"
	return e
}

// checkInForce refuses functions without ftrace site that earlier updates have
// exchanged by exchanging all that calls them, and that are now used otherwise.
func (p *plan) checkInForce(sp []special) error {
	if p.stack == nil {
		return nil
	}
	sites, err := ftraceSites(p.old, sp)
	if err != nil {
		return err
	}
	for _, it := range p.relied() {
		if !sites[it.twin] {
			return refuse.New(refuse.NoFtraceSite, it.name, "the shipped function does not begin with an ftrace site; earlier updates have copies of it, and now it is used otherwise than by calls")
		}
	}
	return nil
}

// relied lists functions that differ from the shipped ones and are left to
// earlier updates.
func (p *plan) relied() (out []*item) {
	if p.stack == nil {
		return nil
	}
	for _, it := range p.new.items {
		if it.kind == function && it.twin != nil && it.parent == nil && it.changed && !it.promoted && !it.registry &&
			it.life == always && it.twin.life == always && !p.wanted(it) && (it.sym == nil || !p.stack.promoted[it.sym]) {
			out = append(out, it)
		}
	}
	return out
}
