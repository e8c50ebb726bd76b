// SPDX-License-Identifier: Apache-2.0

package build

import (
	"context"
	"debug/elf"
	"fmt"
	"slices"
	"strings"

	"github.com/lupatch/lupatch/internal/elfobj"
	"github.com/lupatch/lupatch/internal/refuse"
	"github.com/lupatch/lupatch/patchgen"
)

// A global function without ftrace site is moved: the update has a copy of it, and
// all that calls it is replaced so that it calls the copy. See patchgen.

// MaxCallers is how many units callers of moved functions may lead to if nobody says
// otherwise. Each is compiled twice, and each module among them becomes a part of
// what the update replaces.
const MaxCallers = 60

// move is one such function.
type move struct {
	unit *unit
	// names are all that others know it by, the first its own.
	names []string
	// importers are the modules that use its export.
	importers []string
	exported  bool
}

func newMove(u *unit, name string) *move {
	m := &move{unit: u, names: []string{name}}
	for _, n := range globalNames(u.old, name) {
		if n != name {
			m.names = append(m.names, n)
		}
	}
	exports := exportsOf(u.old)
	m.exported = slices.ContainsFunc(m.names, func(n string) bool { return exports[n] })
	return m
}

// link is what the copy is called in the update.
func (m *move) link() string { return m.names[0] + "." + m.unit.tu.Unit }

// meant reports whether a unit means this function by its name.
func (m *move) meant(u *unit) bool {
	return u.tu.Unit == m.unit.tu.Unit || m.exported && slices.Contains(m.importers, u.tu.Unit)
}

// moves are all of an update.
type moves struct {
	job  *job
	list []*move
	// added counts the units that are there for them.
	added int
}

// names lists the functions.
func (s *moves) names() (out []string) {
	for _, m := range s.list {
		out = append(out, m.names[0])
	}
	slices.Sort(out)
	return out
}

// tell says in a unit's input what is moved.
func (s *moves) tell(u *unit, in *patchgen.Input) {
	for _, m := range s.list {
		for _, n := range m.names {
			switch {
			case m.unit == u:
				in.Moved = append(in.Moved, n)
				in.LinkNames[n] = m.link()
			case m.meant(u):
				in.Provided[n] = patchgen.Provided{Link: m.link(), Instead: true}
			}
		}
	}
}

// add finds all that calls more functions and makes units of it.
func (s *moves) add(ctx context.Context, units []*unit, found []*move) ([]*unit, error) {
	s.list = append(s.list, found...)
	more, err := s.callers(ctx, units, found)
	return append(units, more...), err
}

// refuse says what stands in the way of a function's move.
func (m *move) refuse(users []string, why string) error {
	users, list := inSentence(users, 120)
	e := refuse.New(refuse.NoFtraceSite, m.names[0], "it has no ftrace site, and not all that uses it can be replaced: %s %s", list, why)
	e.Help = fmt.Sprintf("What uses %s and cannot be replaced:\n  %s\n", m.names[0], strings.Join(users, "\n  "))
	return e
}

// inSentence sorts a list and says it in about room bytes, by its first elements.
func inSentence(list []string, room int) (sorted []string, text string) {
	slices.Sort(list)
	list = slices.Compact(list)
	n := min(len(list), named)
	for n > 1 && len(strings.Join(list[:n], ", ")) > room {
		n--
	}
	return list, some(list, n)
}

// some names the first of a list and counts the others.
func some(list []string, n int) string {
	slices.Sort(list)
	if len(list) <= n {
		return strings.Join(list, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(list[:n], ", "), len(list)-n)
}

// linked reports whether the update has the copy.
func (m *move) linked() bool {
	return !m.unit.result.Empty() && slices.ContainsFunc(m.unit.result.Object.Symbols, func(y *elfobj.Symbol) bool {
		return y.Name == m.link() && y.Section != nil && y.Bind == elf.STB_GLOBAL
	})
}

// check makes sure that the running kernel's callers are those that the update
// replaces, although what was compared is compiled with other flags, and says what
// was done.
func (s *moves) check(units []*unit) error {
	for _, m := range s.list {
		if err := s.checkOne(m, units); err != nil {
			return err
		}
	}
	return nil
}

func (s *moves) checkOne(m *move, units []*unit) error {
	var files, left []string
	count, known := 0, map[string]map[string]bool{}
	for _, u := range units {
		if !m.meant(u) {
			continue
		}
		callers, jumps, others := patchgen.Callers(u.shipped, u.tu.Unit, s.job.sizes, m.names)
		if len(others) > 0 {
			return m.refuse(others, fmt.Sprintf("in %s", placeOf(u.tu)))
		}
		has := map[string]bool{}
		for _, f := range u.result.Functions {
			has[f.Name] = true
		}
		for _, c := range callers {
			if !has[c] {
				return m.refuse([]string{c}, fmt.Sprintf("in %s, which calls it as the kernel ships it", placeOf(u.tu)))
			}
		}
		if known[u.tu.Unit] == nil {
			known[u.tu.Unit] = map[string]bool{m.names[0]: true} // it may call itself
		}
		for _, c := range callers {
			known[u.tu.Unit][c] = true
		}
		count += len(callers)
		if len(callers) > 0 && !slices.Contains(files, placeOf(u.tu)) {
			files = append(files, placeOf(u.tu))
		}
		left = append(left, jumps...)
	}
	if err := s.complete(m, known); err != nil {
		return err
	}
	name := m.names[0]
	if !m.linked() {
		return fmt.Errorf("moving %s: there is no copy of it", name)
	}
	if count == 0 {
		return refuse.New(refuse.NoFtraceSite, name, "it has no ftrace site, and nothing that the kernel comes with calls it, so that there is nothing to replace")
	}
	callers, are := fmt.Sprintf("%d callers", count), "are"
	if count == 1 {
		callers, are = "caller", "is"
	}
	s.job.notes = append(s.job.notes, fmt.Sprintf("%s has no ftrace site: its %s in %s %s replaced to call the new version", name, callers, some(files, named), are))
	if m.exported {
		s.job.review = append(s.job.review, fmt.Sprintf("%s is exported and has no ftrace site: all that the kernel comes with and that calls it is replaced; see that no module from elsewhere does, which would go on with the old version", name))
	}
	if len(left) > 0 {
		slices.Sort(left)
		s.job.review = append(s.job.review, fmt.Sprintf("%s has no ftrace site, and %s end in a jump to it: a task that sleeps there counts as switched, and goes on in the old version until it returns", name, strings.Join(slices.Compact(left), ", ")))
	}
	return nil
}
