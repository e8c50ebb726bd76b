// SPDX-License-Identifier: Apache-2.0

package patchgen

import "bytes"

// patchableSection lists where the instructions begin that the compiler puts
// before functions (-fpatchable-function-entry=N,N): on kernels with
// CONFIG_CALL_PADDING (since 6.2) the kernel puts code there that callers of
// the function run first, and complains where there is no room. There is a
// section of this name for each section of code.
const patchableSection = "__patchable_function_entries"

// maxLead is more than any kernel asks for (CONFIG_FUNCTION_PADDING_BYTES).
const maxLead = 128

// leads finds the room before functions.
func (o *object) leads() {
	for _, s := range o.file.Sections {
		if s.Name != patchableSection {
			continue
		}
		for _, r := range s.Relocs {
			if r.Sym.Section == nil {
				continue
			}
			o.lead(o.bySec[r.Sym.Section], r.Sym.Value+uint64(r.Addend))
		}
	}
}

// lead gives what begins at from to the function that is next in the section.
func (o *object) lead(list []*item, from uint64) {
	for i, it := range list {
		if it.off < from || it.kind != function {
			continue
		}
		free := i == 0 || list[i-1].end() <= from
		if n := it.off - from; free && n <= maxLead && it.off <= uint64(len(it.sec.Data)) && len(it.sec.RelocsIn(from, it.off)) == 0 {
			it.lead = n
		}
		return
	}
}

// leading is a copy of the room before it.
func (it *item) leading() []byte {
	if it.lead == 0 {
		return nil
	}
	return bytes.Clone(it.sec.Data[it.off-it.lead : it.off])
}
