// SPDX-License-Identifier: Apache-2.0

package patchgen

import "strings"

// probeOnly finds functions that run only when a device is probed: those that
// a driver's table names as probe function, and those that nothing else calls.
// Devices that are already bound do not see a change there.
func (p *plan) probeOnly() map[*item]bool {
	callers, tables := map[*item][]*item{}, map[*item][]*item{}
	for _, it := range p.new.items {
		for _, r := range it.relocs() {
			t, err := p.new.resolve(it, r)
			if err != nil || t.item == nil || t.item.kind != function || t.item == it {
				continue
			}
			from := it
			if from.parent != nil {
				from = from.parent
			}
			if it.kind == function {
				callers[t.item] = append(callers[t.item], from)
			} else if it.kind == data {
				tables[t.item] = append(tables[t.item], it)
			}
		}
	}
	out := map[*item]bool{}
	for _, it := range p.new.items {
		// The kernel's naming rule for these: DRIVER_probe, in a structure
		// called DRIVER_driver (Documentation/driver-api/driver-model).
		if it.kind == function && strings.HasSuffix(it.name, "_probe") && len(callers[it]) == 0 && len(tables[it]) == 1 && strings.HasSuffix(tables[it][0].name, "_driver") {
			out[it] = true
		}
	}
	for grown := true; grown; {
		grown = false
		for it, from := range callers {
			only := !out[it] && !it.global() && len(tables[it]) == 0
			for _, f := range from {
				only = only && out[f]
			}
			if only {
				out[it], grown = true, true
			}
		}
	}
	return out
}
