// SPDX-License-Identifier: Apache-2.0

package patchgen

import (
	"cmp"
	"debug/elf"
	"maps"
	"slices"

	"github.com/lupatch/lupatch/internal/elfobj"
	"github.com/lupatch/lupatch/internal/refuse"
)

// CheckNames makes sure that what an update refers to in the running kernel is
// there under the same name. shipped is the unit compiled with the flags under
// which it was placed in the running kernel, other the old version that the
// update was made against with other flags: those change how static locals are
// numbered and which clones of a function there are. refs are those of the
// update. AmbiguousSymbol names the first that is not the same thing.
//
// The compiler makes a clone to suit its callers, and how to call it is seen only
// in its code. So of clones whose code depends on the flags the update needs
// copies: their names are to go into Input.Copies, for another try.
func CheckNames(unit string, shipped, other *elfobj.File, sizes Sizes, refs map[Ref]int) (copies []string, err error) {
	sp := specials(sizes)
	a, b := view(shipped, sp), view(other, sp)
	correlate(a, b)
	(&comparer{old: a, new: b, same: map[[2]*item]bool{}}).compare()
	here := map[string]*item{}
	for y, it := range b.bySym {
		if y.Type != elf.STT_SECTION {
			here[y.Name] = it
		}
	}
	for _, r := range slices.SortedFunc(maps.Keys(refs), compareRefs) {
		it := here[r.Symbol]
		if r.Exported || r.Object != unit || it == nil {
			continue
		}
		cloned := it.kind == function && clone.MatchString(it.name)
		switch {
		case cloned && (it.twin == nil || it.changed):
			copies = append(copies, it.name)
		case it.twin == nil || it.twin.name != it.name && it.name == r.Symbol:
			return nil, refuse.New(refuse.AmbiguousSymbol, r.Symbol, "what the compiler calls so depends on its flags, and the running kernel may mean something else by it")
		}
	}
	return copies, nil
}

func compareRefs(a, b Ref) int {
	return cmp.Or(cmp.Compare(a.Object, b.Object), cmp.Compare(a.Symbol, b.Symbol), cmp.Compare(a.Sympos, b.Sympos))
}
