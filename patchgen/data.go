// SPDX-License-Identifier: Apache-2.0

package patchgen

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"github.com/lupatch/lupatch/internal/elfobj"
	"github.com/lupatch/lupatch/internal/refuse"
)

// DataAction is what to do about a variable whose initial value changed.
type DataAction string

const (
	// DataKeep leaves the value that the running kernel has.
	DataKeep DataAction = "keep"
	// DataPre writes the new value before the first task runs new code, and
	// puts the value found back when all tasks run old code again.
	DataPre DataAction = "write@pre"
	// DataPost writes the new value when all tasks run new code, and puts the
	// value found back before the first task runs old code again.
	DataPost DataAction = "write@post"
)

// DataActions are all of them, as --data takes them.
var DataActions = []DataAction{DataPre, DataPost, DataKeep}

// DataRule is the author's word on a variable.
type DataRule struct {
	// Name of the variable; that of a static one without the compiler's number.
	// Empty means every variable that no other rule names.
	Name   string
	Action DataAction
}

// DataChange is a variable that the update writes or that the rules keep.
type DataChange struct {
	Name   string
	Action DataAction
	// Param is the parameter that the variable holds, if any.
	Param string
	// What lists the differing parts, as "table[2].max: 10 → 11".
	What []string
	// Alias is the symbol of the new value: eight bytes that hold the address
	// of the variable, then Size bytes. Empty if the running value is kept.
	Alias string
	Size  uint64
	// Parts are the ranges to write, in bytes from the variable's start.
	Parts []Range
	// ReadOnly is set if the kernel has write-protected the variable.
	ReadOnly bool
}

// write is a variable to be written.
type write struct {
	item   *item // of the new version
	leaves []leaf
	rule   DataRule
	what   []string
	param  string
}

// ruleFor finds the rule for a variable: one with its name, or the general one.
func ruleFor(rules []DataRule, it *item) (DataRule, bool) {
	for _, r := range rules {
		if r.Name != "" && (r.Name == it.name || r.Name == strings.TrimSuffix(baseName(it), ".")) {
			return r, true
		}
	}
	for _, r := range rules {
		if r.Name == "" {
			return r, true
		}
	}
	return DataRule{}, false
}

// pinRuled notes variables that a rule names: they stay where they are, also
// tables of constants that would otherwise travel with the functions.
func pinRuled(rules []DataRule, old *object) {
	for _, it := range old.items {
		if r, ok := ruleFor(rules, it); ok && r.Name != "" && it.kind == data && it.twin != nil {
			it.pinned, it.twin.pinned = true, true
		}
	}
}

// changes decides about every variable whose initial value differs. The
// running kernel's variables keep the value and size they have, unless the
// author says otherwise.
func (p *plan) changes(c *comparer, in *Input) error {
	shapes, params := &shapes{obj: in.NewObject}, p.new.parameters()
	for _, it := range p.old.items {
		if it.kind != data || it.twin == nil || !it.changed || it.registry || it.life != always {
			continue
		}
		if private(it) || copyable(it) && copyable(it.twin) {
			continue
		}
		name := strings.TrimSuffix(baseName(it), ".")
		if p.stack != nil {
			if _, differs := p.stack.told[it.twin.sym]; !differs {
				continue // an earlier update's matter
			}
		}
		if it.size != it.twin.size {
			e := refuse.New(refuse.DataChanged, it.name, "the variable is %d bytes in the running kernel and would be %d", it.size, it.twin.size)
			e.Remedy = "a variable of the running kernel cannot change its size: leave it out of the patch, or replace the whole module or kernel"
			return e
		}
		leaves, bad := c.leaves(it, shapes)
		var what []string
		for _, l := range leaves {
			what = append(what, fmt.Sprintf("%s: %s → %s", l.path, p.old.value(it, l), p.new.value(it.twin, l)))
		}
		if err := p.tell(it, what); err != nil {
			return err
		}
		rule, ok := ruleFor(in.Data, it)
		switch {
		case !ok:
			return valueChanged(name, it, what)
		case rule.Action != DataKeep:
			if bad == "" {
				bad = unwritable(it, leaves)
			}
			if bad != "" {
				return refuse.New(refuse.DataWrite, it.name, "%s", bad)
			}
			p.writes = append(p.writes, write{it.twin, leaves, rule, what, paramOf(params, it.twin)})
		default:
			p.kept = append(p.kept, DataChange{Name: name, Action: DataKeep, Param: paramOf(params, it.twin), What: what, Size: it.size})
		}
	}
	return p.checkUntold()
}

// valueChanged is the refusal of a variable that no rule is for.
func valueChanged(name string, it *item, what []string) error {
	const show = 2
	text := strings.Join(what[:min(len(what), show)], ", ")
	if len(what) > show {
		text += fmt.Sprintf(" and %d more", len(what)-show)
	}
	if text != "" {
		text = " (" + text + ")"
	}
	e := refuse.New(refuse.DataChanged, it.name, "the initial value of the variable differs%s, and the running kernel already holds the old one", text)
	e.Remedy = fmt.Sprintf("say what is right: --data %s=%s or %s writes the new value and puts the one found back on rollback, --data %s=%s leaves the running value", name, DataPre, DataPost, name, DataKeep)
	if len(what) > show {
		e.Help = "What differs in " + name + ":\n  " + strings.Join(what, "\n  ")
	}
	return e
}

// unwritable says why a variable cannot be written; empty if it can.
func unwritable(it *item, leaves []leaf) string {
	if percpu(it) {
		return "it is per-CPU data: the initial value is only a pattern, of which every processor has a copy already"
	}
	for _, l := range leaves {
		switch {
		case l.bits:
			return fmt.Sprintf("%s is a bit field and shares its bytes with others", l.path)
		case l.opaque != "":
			return fmt.Sprintf("%s is part of a struct %s, which the kernel changes only by its own functions", l.path, l.opaque)
		}
	}
	return ""
}

// leaves lists the smallest members that hold what differs: other members of
// the same variable may have changed since boot and are not to be touched. bad
// says why that cannot be told.
func (c *comparer) leaves(it *item, sh *shapes) (out []leaf, bad string) {
	different := c.differences(it)
	typ, err := sh.of(it.twin)
	if err != nil {
		return nil, fmt.Sprintf("its type is not known: %v", err)
	}
	for at, differs := range different {
		if n := len(out); !differs || n > 0 && int64(at) < out[n-1].end() {
			continue
		}
		l, ok := leafAt(typ, strings.TrimSuffix(baseName(it), "."), 0, int64(at))
		if !ok {
			return out, fmt.Sprintf("the byte at +0x%x differs and belongs to no member", at)
		}
		out = append(out, l)
	}
	return out, ""
}

// differences marks the bytes of a variable that differ, pointers by what they
// point to.
func (c *comparer) differences(it *item) []bool {
	out := make([]bool, it.size)
	a, b := contents(it), contents(it.twin)
	for i := range out {
		out[i] = a[i] != b[i]
	}
	ra, rb := relocsByOffset(it), relocsByOffset(it.twin)
	both := map[uint64]bool{}
	for off := range ra {
		both[off] = true
	}
	for off := range rb {
		both[off] = true
	}
	for off := range both {
		x, okA := ra[off]
		y, okB := rb[off]
		if okA && okB && x.Type == y.Type && c.sameTarget(it, it.twin, x, y) {
			continue
		}
		for i := off; i < min(off+max(elfobj.Width(x.Type), elfobj.Width(y.Type)), it.size); i++ {
			out[i] = true
		}
	}
	return out
}

// contents are the bytes of a variable, relocated fields as zeros.
func contents(it *item) []byte {
	if b := blank(it); b != nil {
		return b
	}
	return make([]byte, it.size)
}

func relocsByOffset(it *item) map[uint64]elfobj.Reloc {
	out := map[uint64]elfobj.Reloc{}
	for _, r := range it.relocs() {
		out[r.Off-it.off] = r
	}
	return out
}

// percpu reports data of which each processor has a copy.
func percpu(it *item) bool {
	return hasAnyPrefix(it.sec.Name, []string{".data..percpu", ".bss..percpu"})
}

// readOnly reports data that the kernel write-protects after boot or load.
func readOnly(it *item) bool {
	return !it.sec.Writable() || strings.HasPrefix(it.sec.Name, ".data..ro_after_init") || strings.HasPrefix(it.sec.Name, ".data.rel.ro")
}

// within keeps the relocations that lie in parts of w that are written.
func (w *write) relocs() []elfobj.Reloc {
	return slices.DeleteFunc(slices.Clone(w.item.relocs()), func(r elfobj.Reloc) bool {
		return !slices.ContainsFunc(w.leaves, func(l leaf) bool {
			at := int64(r.Off - w.item.off)
			return at >= l.off && at < l.end()
		})
	})
}

// isText reports bytes that are a text, ended by a zero and filled up with them.
func isText(b []byte) bool {
	text := bytes.TrimRight(b, "\x00")
	if len(text) == len(b) {
		return false
	}
	for _, c := range text {
		if c < ' ' || c > '~' {
			return false
		}
	}
	return true
}
