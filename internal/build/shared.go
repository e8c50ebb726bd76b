// SPDX-License-Identifier: Apache-2.0

package build

import (
	"debug/elf"
	"slices"

	"github.com/lupatch/lupatch/internal/elfobj"
	"github.com/lupatch/lupatch/internal/kbuild"
	"github.com/lupatch/lupatch/internal/refuse"
	"github.com/lupatch/lupatch/patchgen"
)

// shared is what the units of a patch define for each other. All of an update
// is linked into one module, while the kernel and each module have names of
// their own.
type shared struct {
	job  *job
	defs map[string][]definition // by name
	// earlier are units in which updates below have added a global symbol.
	earlier map[string][]*unit
}

// definition is a new global symbol of a unit.
type definition struct {
	unit *unit
	patchgen.NewGlobal
}

// shared collects the definitions. A global that moves from one file to
// another is refused: what is not part of the patch would go on using the old
// one.
func (j *job) shared(units []*unit) (*shared, error) {
	s := &shared{job: j, defs: map[string][]definition{}}
	var err error
	if s.earlier, err = j.addedEarlier(); err != nil {
		return nil, err
	}
	gone := map[string]*unit{}
	for _, u := range units {
		added, lost := patchgen.NewGlobals(u.old, u.new, j.sizes)
		for _, g := range added {
			s.defs[g.Name] = append(s.defs[g.Name], definition{u, g})
		}
		for _, name := range lost {
			gone[u.tu.Unit+" "+name] = u
		}
	}
	for name, defs := range s.defs {
		for _, d := range defs {
			if from := gone[d.unit.tu.Unit+" "+name]; from != nil && from != d.unit {
				e := refuse.New(refuse.AmbiguousSymbol, name, "it moves from %s to %s: files that are not part of the patch would go on using the one that the running kernel has", from.tu.Source, d.unit.tu.Source)
				e.Remedy = "leave it where it is"
				return nil, e
			}
		}
	}
	return s, nil
}

// linkName is what a new global is called in the update.
func (s *shared) linkName(d definition) string {
	for _, other := range s.defs[d.Name] {
		if other.unit.tu.Unit != d.unit.tu.Unit {
			return d.Name + "." + d.unit.tu.Unit
		}
	}
	return d.Name
}

// linkNames gives the names of a unit's own globals that differ in the update.
func (s *shared) linkNames(u *unit) map[string]string {
	out := map[string]string{}
	for _, defs := range s.defs {
		for _, d := range defs {
			if n := s.linkName(d); d.unit == u && n != d.Name {
				out[d.Name] = n
			}
		}
	}
	return out
}

// provided says what a unit means by each of the names: what its own object
// has, then what the running kernel has, then what another object adds.
func (s *shared) provided(u *unit) map[string]patchgen.Provided {
	out := map[string]patchgen.Provided{}
	for name, defs := range s.defs {
		own := slices.DeleteFunc(slices.Clone(defs), func(d definition) bool { return d.unit.tu.Unit != u.tu.Unit })
		switch {
		case len(own) > 0:
			defs = own
		case s.job.hasGlobal(u, name):
			continue
		}
		if !s.carried(u, defs) {
			out[name] = s.heldBelow(name)
			continue
		}
		if len(defs) > 1 {
			out[name] = patchgen.Provided{Err: refuse.New(refuse.AmbiguousSymbol, name, "%s and %s both add a symbol of this name", defs[0].unit.tu.Source, defs[1].unit.tu.Source)}
			continue
		}
		out[name] = s.stand(defs[0])
	}
	for name := range s.earlier {
		if _, told := s.defs[name]; !told && !s.job.hasGlobal(u, name) {
			out[name] = s.heldBelow(name)
		}
	}
	return out
}

// carried reports whether the update holds a definition that another of its
// units refers to. Of what updates below have added it has only what the unit
// itself needs, unless it is cumulative.
func (s *shared) carried(u *unit, defs []definition) bool {
	if s.job.opt.Cumulative {
		return true
	}
	return !slices.ContainsFunc(defs, func(d definition) bool {
		return d.unit != u && d.Was == "" && slices.Contains(s.earlier[d.Name], d.unit)
	})
}

func (s *shared) heldBelow(name string) patchgen.Provided {
	e := refuse.New(refuse.EarlierUpdate, name, "an update below has added it in another file, and only that update's module has it")
	e.Remedy = "build it with --cumulative, which carries that file too"
	return patchgen.Provided{Err: e}
}

// addedEarlier lists the global symbols that updates below have added.
func (j *job) addedEarlier() (map[string][]*unit, error) {
	out := map[string][]*unit{}
	if j.stack == nil {
		return out, nil
	}
	for _, u := range j.compiled {
		same, err := kbuild.SameContents(u.oldPath, u.inForcePath)
		if err != nil {
			return nil, err
		}
		if same {
			continue
		}
		old, err := elfobj.ReadFile(u.oldPath)
		if err != nil {
			return nil, err
		}
		inForce, err := elfobj.ReadFile(u.inForcePath)
		if err != nil {
			return nil, err
		}
		added, _ := patchgen.NewGlobals(old, inForce, j.sizes)
		for _, g := range added {
			out[g.Name] = append(out[g.Name], u)
		}
	}
	return out, nil
}

// stand is what stands for a definition.
func (s *shared) stand(d definition) patchgen.Provided {
	if d.Was == "" {
		return patchgen.Provided{Link: s.linkName(d)}
	}
	ref, err := s.job.symbolsOf(d.unit).Locate(d.Was, true)
	if err != nil {
		return patchgen.Provided{Err: err}
	}
	return patchgen.Provided{Ref: &ref}
}

// hasGlobal reports whether a unit of the running kernel can refer to a global
// symbol of this name that is there already.
func (j *job) hasGlobal(u *unit, name string) bool {
	if m := j.modules[u.tu.Unit]; m != nil {
		for _, y := range m.obj.Symbols {
			if y.Name == name && y.Section != nil && y.Bind != elf.STB_LOCAL {
				return true
			}
		}
	}
	if _, exported := j.exports[name]; exported {
		return true
	}
	for _, y := range j.syms.Lookup(name) {
		if y.Type >= 'A' && y.Type <= 'Z' {
			return true
		}
	}
	return false
}
