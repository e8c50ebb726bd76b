// SPDX-License-Identifier: Apache-2.0

package build

import (
	"fmt"
	"slices"
	"strings"

	"github.com/lupatch/lupatch/internal/elfobj"
	"github.com/lupatch/lupatch/internal/review"
)

// concurrency lists where tasks in the old and in the new version may have
// different ideas of locks, reference counts, RCU and the order of memory
// accesses. The source says what differs, the machine code whether that takes
// part in the update; and it shows what comes out of inline functions that the
// patch does not touch.
func (j *job) concurrency(units []*unit) ([]string, error) {
	var files []review.Source
	for _, path := range j.change.paths() {
		old, err := j.before(path)
		if err != nil {
			return nil, fmt.Errorf("comparing the versions of a file: %w", err)
		}
		files = append(files, review.Source{Path: path, Old: old, New: j.change.files[path]})
	}
	points := review.Compare(files)
	var out []string
	add := func(p review.Point, unit string) {
		s := fmt.Sprintf("mixed-version concurrency: %s of %s: %s: %s", p.Function, unit, p.Kind, p.Changes())
		if !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	for _, u := range units {
		if u.result.Empty() || u.caller {
			continue
		}
		m := newMembers(u)
		inlined := map[review.Kind]bool{}
		for _, p := range points {
			switch where := m.find(p); {
			case where == elsewhere:
				continue
			case where == withinOthers:
				inlined[p.Kind] = true
			}
			m.told[p.Function] = append(m.told[p.Function], p.Kind)
			add(p, u.tu.Unit)
		}
		for _, p := range u.result.Concurrency {
			if name := sourceName(p.Function); !inlined[p.Kind] && !slices.Contains(m.told[name], p.Kind) {
				p.Function = name
				add(p, u.tu.Unit)
			}
		}
	}
	return out, nil
}

// members says which functions of the source take part in a unit's update.
type members struct {
	u *unit
	// symbols are functions that either version has out of line, updated those
	// that the update replaces or adds.
	symbols, updated map[string]bool
	told             map[string][]review.Kind
}

func newMembers(u *unit) *members {
	m := &members{u, map[string]bool{}, map[string]bool{}, map[string][]review.Kind{}}
	for _, f := range []*elfobj.File{u.old, u.new} {
		for _, y := range f.Symbols {
			if y.Section != nil && y.Section.Exec() && !y.IsSection() {
				m.symbols[sourceName(y.Name)] = true
			}
		}
	}
	for _, f := range u.result.Functions {
		m.updated[sourceName(f.Name)] = true
	}
	return m
}

type membership int

const (
	elsewhere    membership = iota // in another file, without code, or unchanged in effect
	byItself                       // the update has it
	withinOthers                   // it is part of functions that the update has
)

func (m *members) find(p review.Point) membership {
	header := strings.HasSuffix(p.File, ".h")
	switch {
	case !header && p.File != m.u.tu.Source:
		return elsewhere
	case m.updated[p.Function]:
		return byItself
	case m.symbols[p.Function]:
		return elsewhere
	}
	if !header && !strings.Contains(p.Function, "(") && !p.Macro {
		if _, compiled := m.u.lines[p.Function]; !compiled {
			return elsewhere // under a condition that does not hold
		}
	}
	return withinOthers
}

// sourceName takes off what compilers put behind the names of clones and parts.
func sourceName(symbol string) string {
	name, _, _ := strings.Cut(symbol, ".")
	return name
}
