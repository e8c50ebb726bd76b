// SPDX-License-Identifier: Apache-2.0

package patchgen

import (
	"maps"
	"slices"

	"github.com/lupatch/lupatch/internal/review"
)

// concurrency lists what of locks, reference counts, RCU and barriers the
// machine code of one version of a redirected function has and that of the
// other has not at all. How often says nothing: compilers join and double the
// ends of functions as they please. The source tells more (package review);
// this finds what the function has of inline functions that the patch does not
// show.
func (p *plan) concurrency() (out []review.Point) {
	for _, it := range p.redirected {
		a, b := p.old.primitives(it.twin), p.new.primitives(it)
		for _, kind := range review.Kinds {
			pt := review.Point{Function: it.twin.name, Kind: kind}
			for _, name := range slices.Sorted(maps.Keys(union(a, b))) {
				switch {
				case union(a, b)[name] != kind:
				case a[name] == "":
					pt.Added = append(pt.Added, name)
				case b[name] == "":
					pt.Removed = append(pt.Removed, name)
				}
			}
			if len(pt.Added)+len(pt.Removed) > 0 {
				out = append(out, pt)
			}
		}
	}
	return out
}

func union[V any](a, b map[string]V) map[string]V {
	out := map[string]V{}
	maps.Copy(out, a)
	maps.Copy(out, b)
	return out
}

// primitives gives what a function refers to, with the functions that only
// this version has out of line: elsewhere they may be part of their callers.
func (o *object) primitives(it *item) map[string]review.Kind {
	out := map[string]review.Kind{}
	seen := map[*item]bool{}
	var visit func(*item)
	visit = func(it *item) {
		if seen[it] {
			return
		}
		seen[it] = true
		for name := range barriers(it) {
			out[name] = review.Ordering
		}
		for _, r := range it.relocs() {
			t, err := o.resolve(it, r)
			if err != nil {
				continue
			}
			name := ""
			switch {
			case t.ext != nil:
				name = t.ext.Name
			case t.item.kind == function && (t.item.parent == it || t.item.twin == nil):
				visit(t.item)
				continue
			case t.item.kind == function:
				name = baseName(t.item)
			}
			if kind, ok := review.ClassifySymbol(name); ok {
				out[name] = kind
			}
		}
	}
	visit(it)
	return out
}
