// SPDX-License-Identifier: Apache-2.0

package patchgen

import (
	"debug/elf"

	"github.com/lupatch/lupatch/internal/elfobj"
)

// Provided is what stands for a global name that another unit of the patch
// adds or moves.
type Provided struct {
	// Link is the symbol in the update.
	Link string
	// Ref is set instead if the running kernel has it: what was static there
	// and becomes global.
	Ref *Ref
	// Instead is set if the running kernel has a function of that name, for which
	// Link stands in: see Input.Moved.
	Instead bool
	// Err is set instead if a reference has to be refused.
	Err error
}

// NewGlobal is a global function or variable that the old version does not
// have as a global one.
type NewGlobal struct {
	Name string
	// Was is the name of the same thing in the old version, where it is static;
	// empty if it is new.
	Was string
}

// NewGlobals lists what a unit's new version defines for others, and the names
// of what only the old version defines for them.
func NewGlobals(old, new *elfobj.File, sizes Sizes) (added []NewGlobal, gone []string) {
	sp := specials(sizes)
	a, b := view(old, sp), view(new, sp)
	correlate(a, b)
	had, has := globals(old), globals(new)
	for _, y := range new.Symbols {
		if !has[y.Name] || had[y.Name] || y.Section == nil || y.Bind == elf.STB_LOCAL {
			continue
		}
		g := NewGlobal{Name: y.Name}
		if it := b.bySym[y]; it != nil && it.twin != nil {
			g.Was = it.twin.name
		}
		added = append(added, g)
	}
	for _, y := range old.Symbols {
		if had[y.Name] && !has[y.Name] && y.Section != nil && y.Bind != elf.STB_LOCAL {
			gone = append(gone, y.Name)
		}
	}
	return added, gone
}

// globals are the names that a unit defines for others.
func globals(f *elfobj.File) map[string]bool {
	out := map[string]bool{}
	for _, y := range f.Symbols {
		if y.Section != nil && y.Bind != elf.STB_LOCAL {
			out[y.Name] = true
		}
	}
	return out
}
