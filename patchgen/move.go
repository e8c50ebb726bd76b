// SPDX-License-Identifier: Apache-2.0

package patchgen

import (
	"debug/elf"
	"maps"
	"slices"
	"strings"

	"github.com/lupatch/lupatch/internal/elfobj"
	"github.com/lupatch/lupatch/internal/refuse"
)

// A global function without ftrace site is exchanged by its callers, wherever they
// are: they call a copy that the update has of it. The running kernel's own stays,
// with all that probes it.

// mayMove reports whether a global function could be called at another place. The
// linker may mean another one by a weak name, and what lies outside of .text does so
// for a reason that a copy in a module does not meet.
func (it *item) mayMove() bool {
	return it.sym.Bind == elf.STB_GLOBAL && it.twin.sym.Bind == elf.STB_GLOBAL && it.name == it.twin.name &&
		(it.twin.sec.Name == ".text" || strings.HasPrefix(it.twin.sec.Name, ".text."))
}

// otherUser names what refers to a function without calling it; "" if nothing does.
func otherUser(old, new *object, it *item) string {
	for _, u := range []*uses{old.uses()[it.twin], new.uses()[it]} {
		if u.elsewhere() {
			return u.other[0]
		}
	}
	return ""
}

// recall marks as changed what calls functions that others of the update stand in
// for.
func recall(in *Input, old, new *object) error {
	var names []string
	for _, name := range slices.Sorted(maps.Keys(in.Provided)) {
		if in.Provided[name].Instead {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return nil
	}
	for _, o := range []*object{old, new} {
		for name, u := range o.usersOf(in.Unit, names) {
			if u.elsewhere() {
				return refuse.New(refuse.NoFtraceSite, name, "it has no ftrace site, and not all that uses it can be exchanged: %s does more than call it, or is not replaced", u.other[0])
			}
			if o == new {
				if err := replaceCallers(in, name, u.from); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// replaceCallers has the update replace what calls a function that it cannot
// redirect. The kernel's own init code has run for good, and its exit code is not
// there; a module's runs whenever it comes and goes.
func replaceCallers(in *Input, name string, callers map[*item]bool) error {
	for c := range callers {
		if c.life != always && in.Unit == VMLinux {
			continue
		}
		if c.life != always && slices.Contains(in.Moved, name) {
			return refuse.New(refuse.NoFtraceSite, name, "it has no ftrace site, and %s of %s calls it when the module comes or goes: that code is not replaced", c.name, in.Unit)
		}
		if c.twin != nil {
			c.changed, c.twin.changed = true, true
		}
	}
	return nil
}

// usersOf collects who refers to global symbols, by their names. Code and data that
// are gone from a running kernel do not count; those of a module count as something
// that cannot be replaced, since they are back at its next load.
func (o *object) usersOf(unit string, names []string) map[string]*uses {
	out := map[string]*uses{}
	for _, s := range o.file.Sections {
		gone := lifeOf(s.Name) != always
		if !s.Alloc() || hasAnyPrefix(s.Name, ignored) && s.Name != btfSection || isExport(s.Name) || gone && unit == VMLinux {
			continue
		}
		for _, r := range s.Relocs {
			if r.Sym.IsSection() || !slices.Contains(names, r.Sym.Name) {
				continue
			}
			u := out[r.Sym.Name]
			if u == nil {
				u = &uses{from: map[*item]bool{}}
				out[r.Sym.Name] = u
			}
			at := o.in(s, r.Off)
			if at == nil {
				u.other = append(u.other, s.Name)
				continue
			}
			from := at
			if at.parent != nil {
				from = at.parent
			}
			if in, ok := at.insnAt(r.Off); gone || !ok || !in.branch() {
				u.other = append(u.other, from.name)
			} else if o.bySym[r.Sym] != from {
				u.from[from] = true
			}
		}
	}
	return out
}

// Callers lists which functions of an object call one of some global symbols, and
// what else in it refers to them, sorted. jumps are those that leave for good, so
// that nothing on the stack tells of them. unit is as in Input.
func Callers(f *elfobj.File, unit string, sizes Sizes, names []string) (callers, jumps, others []string) {
	o := view(f, specials(sizes))
	for _, u := range o.usersOf(unit, names) {
		others = append(others, u.other...)
		for c := range u.from {
			callers = append(callers, c.name)
			if o.jumpsTo(c, names) {
				jumps = append(jumps, c.name)
			}
		}
	}
	for _, list := range []*[]string{&callers, &jumps, &others} {
		slices.Sort(*list)
		*list = slices.Compact(*list)
	}
	return callers, jumps, others
}

// jumpsTo reports whether a function or a part of it jumps to one of the names.
func (o *object) jumpsTo(it *item, names []string) bool {
	for _, part := range append([]*item{it}, it.parts...) {
		for _, r := range part.relocs() {
			if in, ok := part.insnAt(r.Off); ok && slices.Contains(names, r.Sym.Name) && in.branch() && !in.call() {
				return true
			}
		}
	}
	return false
}
