// SPDX-License-Identifier: Apache-2.0

package build

import (
	"github.com/lupatch/lupatch/internal/kallsyms"
	"github.com/lupatch/lupatch/internal/refuse"
	"github.com/lupatch/lupatch/patchgen"
)

// freed refuses functions of vmlinux that are gone after boot, although their
// section does not say so: where code for memory goes (.meminit.text) depends
// on whether the kernel can add memory later.
func (j *job) freed(u *unit, names []string) error {
	if u.tu.Unit != patchgen.VMLinux {
		return nil
	}
	begin, end := j.syms.Lookup("__init_begin"), j.syms.Lookup("__init_end")
	if len(begin) != 1 || len(end) != 1 {
		return nil // nothing was freed that the kernel itself knows of
	}
	for _, n := range names {
		if all := j.syms.Lookup(n); len(all) > 0 && !outside(all, begin[0].Addr, end[0].Addr) {
			return refuse.New(refuse.OnlyInit, n, "the function lies in memory that this kernel frees after boot")
		}
	}
	return nil
}

// outside reports whether one of the symbols lies outside of a range.
func outside(syms []kallsyms.Symbol, from, to uint64) bool {
	for _, s := range syms {
		if s.Addr < from || s.Addr >= to {
			return true
		}
	}
	return false
}
