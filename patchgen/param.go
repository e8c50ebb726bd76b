// SPDX-License-Identifier: Apache-2.0

package patchgen

import (
	"encoding/binary"
	"strings"
)

// parameter is a module or boot parameter of an object.
type parameter struct {
	name string
	// writable is set if it can be set in /sys/module/NAME/parameters, too.
	writable bool
	// ops and arg are its operations and its variable, if they are of this object.
	ops, arg *item
}

// Where the members of struct kernel_param are (include/linux/moduleparam.h;
// since 4.8, unchanged up to 6.12).
const (
	paramName = 0
	paramOps  = 16
	paramPerm = 24
	paramArg  = 32
)

// parameters lists those of a version by their operations and by their variable.
func (o *object) parameters() map[*item][]parameter {
	out := map[*item][]parameter{}
	for _, it := range o.items {
		if it.sec.Name != "__param" || it.kind != data || len(it.code()) < paramArg {
			continue
		}
		p := parameter{name: o.textAt(it, paramName), writable: binary.LittleEndian.Uint16(it.code()[paramPerm:])&0o222 != 0}
		p.ops, p.arg = o.pointedAt(it, paramOps), o.variable(o.pointedAt(it, paramArg))
		if p.name == "" {
			continue
		}
		for _, x := range []*item{p.ops, p.arg} {
			if x != nil {
				out[x] = append(out[x], p)
			}
		}
	}
	return out
}

// variable is what a parameter sets: the variable itself, or that to which the
// description of an array or a text points (module_param_array and -_string).
func (o *object) variable(arg *item) *item {
	if arg == nil || !strings.HasPrefix(arg.name, "__param_") {
		return arg
	}
	for _, r := range arg.relocs() {
		if t, err := o.resolve(arg, r); err == nil && t.item != nil && t.item.kind == data && t.item.sec.Writable() {
			return t.item
		}
	}
	return nil
}

// pointedAt is the item to which a pointer in a variable points.
func (o *object) pointedAt(it *item, off uint64) *item {
	for _, r := range it.relocs() {
		if r.Off-it.off == off {
			if t, err := o.resolve(it, r); err == nil {
				return t.item
			}
		}
	}
	return nil
}

func (p parameter) origin() *origin {
	if p.writable {
		return &origin{params: map[string]bool{p.name: true}}
	}
	return &origin{fixed: map[string]bool{p.name: true}}
}

// paramOf is the name of the parameter that a variable holds; empty if none.
func paramOf(params map[*item][]parameter, it *item) string {
	for _, p := range params[it] {
		if p.arg == it {
			return p.name
		}
	}
	return ""
}
