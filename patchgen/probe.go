// SPDX-License-Identifier: Apache-2.0

package patchgen

import (
	"debug/dwarf"
	"maps"
	"slices"
	"strings"

	"github.com/lupatch/lupatch/internal/elfobj"
)

// origin says from where a function is reached that is reached from nowhere
// else than what runs once for each device, module or value.
type origin struct {
	// drivers are the names of the drivers that have it run when they meet a
	// device; "" for one whose name is not known.
	drivers map[string]bool
	// params are the parameters that it sets; those in fixed only at load.
	params, fixed map[string]bool
	// init is set if it runs when its module is loaded, or at boot.
	init bool
}

func (o *origin) join(p *origin) {
	for _, m := range []struct {
		to   *map[string]bool
		from map[string]bool
	}{{&o.drivers, p.drivers}, {&o.params, p.params}, {&o.fixed, p.fixed}} {
		if len(m.from) > 0 && *m.to == nil {
			*m.to = map[string]bool{}
		}
		maps.Copy(*m.to, m.from)
	}
	o.init = o.init || p.init
}

// describe puts down at a function when its code runs.
func (o *origin) describe(f *Function) {
	if o == nil {
		return
	}
	f.Params = slices.Sorted(maps.Keys(union(o.params, o.fixed)))
	f.Drivers = slices.DeleteFunc(slices.Sorted(maps.Keys(o.drivers)), func(s string) bool { return s == "" })
	if o.drivers[""] {
		f.Drivers = nil // one alone would not be all
	}
	switch {
	case len(o.params) > 0:
	case len(o.drivers) > 0:
		f.ProbeOnly = true
	default:
		f.InitOnly = true
	}
}

// references say who refers to the functions of a version: code that calls
// them, the data that holds their address, and where in it.
type references struct {
	callers map[*item][]*item
	slots   map[*item][]slot
	// unclear are references of code that may be calls or not: settle tells, for
	// those functions alone that are asked for, because code has to be decoded.
	unclear map[*item][]reference
	// taken are functions whose address code passes on.
	taken map[*item]bool
}

type reference struct {
	from *item
	rel  elfobj.Reloc
}

// slot is a place in a variable or a section.
type slot struct {
	item *item
	off  int64
}

func (o *object) references() *references {
	rs := &references{map[*item][]*item{}, map[*item][]slot{}, map[*item][]reference{}, map[*item]bool{}}
	for _, it := range o.items {
		for _, r := range it.relocs() {
			t, err := o.resolve(it, r)
			if err != nil || t.item == nil || t.item.kind != function || t.item == it {
				continue
			}
			switch {
			case it.kind != function:
				rs.slots[t.item] = append(rs.slots[t.item], slot{it, int64(r.Off - it.off)})
			case calls(r):
				rs.called(t.item, it)
			default:
				rs.unclear[t.item] = append(rs.unclear[t.item], reference{it, r})
			}
		}
	}
	return rs
}

func (rs *references) called(it, from *item) {
	if from.parent != nil {
		from = from.parent
	}
	if it != from && it.parent != from { // a split-off part jumps back
		rs.callers[it] = append(rs.callers[it], from)
	}
}

// settle finds out about the unclear references to a function.
func (rs *references) settle(it *item) {
	for _, u := range rs.unclear[it] {
		if takesAddress(u.from, u.rel) {
			rs.taken[it] = true
		} else {
			rs.called(it, u.from)
		}
	}
	delete(rs.unclear, it)
}

// origins finds functions that run only for new devices, when their module is
// loaded, or when a parameter is set: what runs already does not see a change
// there. A function counts if every way to it is known.
func (p *plan) origins(in *Input) map[*item]*origin {
	o, rs := p.new, p.new.references()
	v := &roots{obj: o, shapes: &shapes{obj: in.NewObject}, params: o.parameters()}
	out := map[*item]*origin{}
	// Types are looked up for those only that lead to a redirected function.
	for it := range rs.above(p.redirected) {
		if !rs.taken[it] && (!it.global() || o.initFunction(it)) {
			if root, ok := v.of(it, rs.slots[it]); ok {
				out[it] = root
			}
		}
	}
	known := map[*item]bool{}
	for it, r := range out {
		known[it] = r.known() && len(rs.callers[it]) == 0
	}
	for grown := true; grown; {
		grown = false
		for it, r := range out {
			if known[it] || slices.ContainsFunc(rs.callers[it], func(c *item) bool { return !known[c] }) || len(rs.callers[it]) == 0 {
				continue
			}
			for _, c := range rs.callers[it] {
				r.join(out[c])
			}
			known[it], grown = true, true
		}
	}
	maps.DeleteFunc(out, func(it *item, _ *origin) bool { return !known[it] })
	return out
}

func (o *origin) known() bool { return o.init || len(o.drivers)+len(o.params)+len(o.fixed) > 0 }

// above gives functions and all from which they are called.
func (rs *references) above(from []*item) map[*item]bool {
	out := map[*item]bool{}
	var visit func(*item)
	visit = func(it *item) {
		if out[it] {
			return
		}
		out[it] = true
		rs.settle(it)
		for _, c := range rs.callers[it] {
			visit(c)
		}
	}
	for _, it := range from {
		visit(it)
	}
	return out
}

// initFunction reports code that runs when its module is loaded or at boot.
func (o *object) initFunction(it *item) bool {
	if it.life == initOnly {
		return true
	}
	for y, x := range o.bySym {
		// module_init() gives the function this second name (include/linux/module.h).
		if x == it && y.Name == "init_module" {
			return true
		}
	}
	return false
}

// roots knows the places that have functions run.
type roots struct {
	obj    *object
	shapes *shapes
	params map[*item][]parameter
}

// of gives the origin that the places holding a function's address make it; ok
// is false if one of them is of another kind.
func (v *roots) of(it *item, slots []slot) (*origin, bool) {
	out := &origin{init: v.obj.initFunction(it)}
	if it.life == initOnly {
		return out, true // whoever has the address, the code is gone
	}
	for _, s := range slots {
		switch {
		case initCodeOnly(s.item.sec.Name):
			out.init = true
			continue
		case s.item.registry || s.item.kind != data:
			return nil, false
		}
		typ, err := v.shapes.of(s.item)
		if err != nil {
			return nil, false
		}
		st, base, member := memberAt(typ, 0, s.off)
		switch {
		case st == nil:
			return nil, false
		case meetsDevice(st.StructName, member):
			out.join(&origin{drivers: map[string]bool{v.driverName(s.item, st, base): true}})
		case st.StructName == "kernel_param_ops" && member == "set" && len(v.params[s.item]) > 0:
			for _, p := range v.params[s.item] {
				out.join(p.origin())
			}
		default:
			return nil, false
		}
	}
	return out, true
}

// probeSlots are members that a bus, class or subsystem calls when a driver meets
// a device (Documentation/driver-api/driver-model/driver.rst and the headers of
// the buses).
var probeSlots = []string{"probe", "probe_new", "attach", "auto_attach", "port_probe", "connect", "bind"}

func meetsDevice(structName, member string) bool {
	return slices.Contains(probeSlots, member) && (strings.HasSuffix(structName, "_driver") || structName == "input_handler" || structName == "component_ops")
}

// memberAt finds the innermost structure that has a member at an offset, and
// where it begins.
func memberAt(t dwarf.Type, base, at int64) (st *dwarf.StructType, from int64, member string) {
	switch t := bare(t).(type) {
	case *dwarf.ArrayType:
		if n := t.Type.Size(); n > 0 && at >= base {
			i := (at - base) / n
			return memberAt(t.Type, base+i*n, at)
		}
	case *dwarf.StructType:
		for _, f := range t.Field {
			begin := base + f.ByteOffset
			if f.BitSize > 0 || at < begin || at >= begin+f.Type.Size() {
				continue
			}
			if st, from, member := memberAt(f.Type, begin, at); st != nil {
				return st, from, member
			}
			return t, base, f.Name
		}
	}
	return nil, 0, ""
}

// driverName reads what a driver is called out of its structure; empty if that
// is not where it is kept.
func (v *roots) driverName(it *item, st *dwarf.StructType, base int64) string {
	for _, f := range st.Field {
		switch {
		case f.Name == "name":
			if s := v.obj.textAt(it, base+f.ByteOffset); s != "" {
				return s
			}
		case f.Name == "driver" || f.Name == "drvwrap":
			if inner, ok := bare(f.Type).(*dwarf.StructType); ok {
				if s := v.driverName(it, inner, base+f.ByteOffset); s != "" {
					return s
				}
			}
		}
	}
	return ""
}

// textAt is the text to which a pointer in a variable points; empty if it does
// not point to one.
func (o *object) textAt(it *item, off int64) string {
	for _, r := range it.relocs() {
		if int64(r.Off-it.off) != off {
			continue
		}
		t, err := o.resolve(it, r)
		if err != nil || t.item == nil {
			return ""
		}
		at, ok := t.place()
		if !ok || at < 0 {
			return ""
		}
		s, _ := t.item.sec.CString(t.item.off + uint64(at))
		return s
	}
	return ""
}
