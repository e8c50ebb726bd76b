// SPDX-License-Identifier: Apache-2.0

package patchgen

import (
	"fmt"
	"slices"
)

// escapes finds places where the address of a new function or variable is
// put somewhere: into a register to be passed on, into a structure. From then
// on a timer, a work item, RCU or an operations table may hold it, and the
// update must stay in memory. Calls, jumps, reads and writes of a variable in
// place are no such thing; strings are only read while a call lasts.
func (p *plan) escapes() []string {
	var out []string
	for _, it := range p.carried {
		for _, r := range it.relocs() {
			t, err := p.new.resolve(it, r)
			if err != nil || t.item == nil || t.item == it || !t.item.included || !p.follows(t.item, it) || harmless(t.item) {
				continue
			}
			if it.kind == function {
				in, ok := it.insnAt(r.Off)
				if ok && (in.branch() || !in.takesAddress(r.Off-it.off)) {
					continue
				}
			} else if it.sec.Exec() {
				continue // .altinstr_aux only branches and tests
			}
			s := fmt.Sprintf("%s takes the address of %s", it.name, t.item.name)
			if !slices.Contains(out, s) {
				out = append(out, s)
			}
		}
	}
	return out
}

// harmless reports items whose address nobody keeps: literals, the state of
// *_ONCE and *_RATELIMITED macros, and descriptors that the kernel drops when a module goes.
func harmless(it *item) bool {
	if it.kind == anonymous || it.size == 0 || it.sec.Name == dyndbgSection {
		return true
	}
	switch baseName(it) {
	case "__func__.", "__FUNCTION__.", "__PRETTY_FUNCTION__.", "__already_done.", "__warned.", "__print_once.", "CSWTCH.", "_rs.":
		return true
	}
	return false
}
