// SPDX-License-Identifier: Apache-2.0

package patchgen

import (
	"maps"
	"slices"

	"github.com/lupatch/lupatch/internal/elfobj"
)

// PrototypeChange is a function, or a pointer to functions, that is called in
// another way from now on.
type PrototypeChange struct {
	Name     string
	Old, New string
}

// ChangedPrototypes compares two versions of an object: functions that both
// define, and slots that both know. They are sorted by name.
func ChangedPrototypes(old, new *Prototypes) (functions, slots []PrototypeChange) {
	return changed(old.Defined, new.Defined), changed(old.Slots, new.Slots)
}

func changed(old, new map[string]string) (out []PrototypeChange) {
	for _, name := range slices.Sorted(maps.Keys(old)) {
		if now, ok := new[name]; ok && now != old[name] {
			out = append(out, PrototypeChange{name, old[name], now})
		}
	}
	return out
}

// References names the functions and variables that a function of an object
// refers to, its split-off parts included. Suffixes that the compiler gives to
// clones are left out.
func References(f *elfobj.File, name string, sizes Sizes) map[string]bool {
	o := view(f, specials(sizes))
	out := map[string]bool{}
	for _, it := range o.items {
		if it.kind != function || it.name != name || it.parent != nil {
			continue
		}
		for _, part := range append([]*item{it}, it.parts...) {
			for _, r := range part.relocs() {
				t, err := o.resolve(part, r)
				switch {
				case err != nil:
				case t.ext != nil:
					out[t.ext.Name] = true
				case t.item.kind == function:
					out[baseName(t.item)] = true
				}
			}
		}
	}
	return out
}
