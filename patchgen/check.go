// SPDX-License-Identifier: Apache-2.0

package patchgen

import (
	"debug/elf"
	"maps"
	"slices"

	"github.com/lupatch/lupatch/internal/refuse"
)

// check refuses what a livepatch of this plan would get wrong.
func (p *plan) check(c *comparer, sp []special) error {
	if err := p.checkRegistries(c); err != nil {
		return err
	}
	if err := p.checkAliases(c); err != nil {
		return err
	}
	if err := p.checkListed(); err != nil {
		return err
	}
	return p.checkSites(sp)
}

// checkSites: the kernel redirects at the ftrace site, so there must be one.
func (p *plan) checkSites(sp []special) error {
	sites, err := ftraceSites(p.old, sp)
	if err != nil {
		return err
	}
	var without *item
	why := ""
	for _, it := range p.redirected {
		if sites[it.twin] {
			continue
		}
		if without == nil {
			without = it
		}
		if user := otherUser(p.old, p.new, it); user != "" {
			without, why = it, ", and "+user+" uses its address, so that there is more to exchange than calls"
			break
		}
	}
	if without == nil {
		return nil
	}
	return refuse.New(refuse.NoFtraceSite, without.name, "the shipped function does not begin with an ftrace site (it is notrace, noinstr, or its file is built without -pg)%s", why)
}

// checkAliases: functions that are one in one version and two in the other.
// Compilers join functions of the same code; redirecting the one would then
// redirect both, or leave one behind.
func (p *plan) checkAliases(c *comparer) error {
	olds, news := p.old.functionNames(), p.new.functionNames()
	for _, name := range slices.Sorted(maps.Keys(olds)) {
		a, b := olds[name], news[name]
		if b == nil || a.twin == b || a.name == name && b.name == name || !a.changed && c.equal(a, b) {
			continue
		}
		return refuse.New(refuse.AmbiguousSymbol, name, "it shares its code with %s in one version and not in the other, so they cannot be redirected each on its own", otherName(name, a, b))
	}
	return nil
}

func otherName(name string, items ...*item) string {
	for _, it := range items {
		if it.name != name {
			return it.name
		}
	}
	return name
}

// functionNames maps every name of a function, aliases included.
func (o *object) functionNames() map[string]*item {
	out := map[string]*item{}
	for y, it := range o.bySym {
		if it.kind == function && y.Type == elf.STT_FUNC {
			out[y.Name] = it
		}
	}
	return out
}

// checkRegistries: what an object announces to the kernel has to stay.
func (p *plan) checkRegistries(c *comparer) error {
	for _, s := range p.old.file.Sections {
		if hasAnyPrefix(s.Name, registries) && !isExport(s.Name) && s.Size > 0 && p.new.file.Section(s.Name) == nil {
			return refuse.New(refuse.SpecialSection, s.Name, "the patch removes an entry that the kernel has already read")
		}
	}
	for _, s := range p.new.file.Sections {
		if !hasAnyPrefix(s.Name, registries) || isExport(s.Name) {
			continue
		}
		old := p.old.file.Section(s.Name)
		if old == nil && s.Size == 0 {
			continue
		}
		if old == nil || old.Size != s.Size {
			return refuse.New(refuse.SpecialSection, s.Name, "entries were added or removed, and the kernel reads this section only at boot or at module load")
		}
		whole := func(o *object, sec int) *item {
			return &item{name: s.Name, sec: o.file.Sections[sec], size: s.Size, kind: anonymous, obj: o}
		}
		a, b := whole(p.old, p.old.indexOf(s.Name)), whole(p.new, p.new.indexOf(s.Name))
		if !c.equal(a, b) && !initCodeOnly(s.Name) {
			return refuse.New(refuse.SpecialSection, s.Name, "entries differ, and the kernel reads this section only at boot or at module load")
		}
	}
	return nil
}

// initCodeOnly names sections that list __init functions: a change there has
// already run.
func initCodeOnly(name string) bool {
	return hasAnyPrefix(name, []string{".initcall", ".con_initcall", ".init.setup"})
}

func (o *object) indexOf(section string) int {
	for i, s := range o.file.Sections {
		if s.Name == section {
			return i
		}
	}
	return -1
}
