// SPDX-License-Identifier: Apache-2.0

package patchgen

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Exports cannot be changed in a running kernel: what it exports it goes on
// exporting, and what is new it exports from the next boot or load on. Neither
// makes the rest of a patch wrong, since modules that are loaded are bound
// already and those of the patch are bound by the update itself; but it is said.

// isExport reports a section that holds nothing but exports.
func isExport(section string) bool {
	return hasAnyPrefix(section, []string{"___ksymtab", "__ksymtab_strings"})
}

// exports lists what an object exports, by the symbol the kernel's macro
// defines for it.
func (o *object) exports() map[string]bool {
	out := map[string]bool{}
	for _, y := range o.file.Symbols {
		if y.Section != nil && strings.HasPrefix(y.Section.Name, "___ksymtab") {
			if name, ok := strings.CutPrefix(y.Name, "__ksymtab_"); ok {
				out[name] = true
			}
		}
	}
	return out
}

// reviewExports says which exports the update leaves as they are.
func (p *plan) reviewExports() (out []string) {
	was, is := p.old.exports(), p.new.exports()
	for _, name := range slices.Sorted(maps.Keys(union(was, is))) {
		switch {
		case was[name] && !is[name]:
			out = append(out, fmt.Sprintf("the patch no longer exports %s; the running kernel goes on exporting it", name))
		case is[name] && !was[name]:
			out = append(out, fmt.Sprintf("the patch exports %s; modules outside the patch can use it from the next boot on", name))
		}
	}
	return out
}
