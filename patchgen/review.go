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
		a, b := p.old.mentioned(it.twin), p.new.mentioned(it)
		added, removed := onlyIn(b, a), onlyIn(a, b)
		for _, kind := range review.Kinds {
			if len(added[kind])+len(removed[kind]) > 0 {
				out = append(out, review.Point{Function: it.twin.name, Kind: kind, Added: added[kind], Removed: removed[kind]})
			}
		}
	}
	return out
}

// onlyIn lists the primitives in a that are not in b, by kind.
func onlyIn(a, b map[string]bool) map[review.Kind][]string {
	out := map[review.Kind][]string{}
	for _, name := range slices.Sorted(maps.Keys(a)) {
		if b[name] {
			continue
		}
		kind, ok := review.ClassifySymbol(name)
		if ok {
			out[kind] = append(out[kind], name)
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

// mentioned gives the names that a function refers to, with the functions that
// only this version has out of line: elsewhere they may be part of their callers.
func (o *object) mentioned(it *item) map[string]bool {
	out := map[string]bool{}
	seen := map[*item]bool{}
	var visit func(*item)
	visit = func(it *item) {
		if seen[it] {
			return
		}
		seen[it] = true
		for name := range barriers(it) {
			out[name] = true
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
			if name != "" {
				out[name] = true
			}
		}
	}
	visit(it)
	return out
}
