// SPDX-License-Identifier: Apache-2.0

package patchgen

import (
	"bytes"
	"debug/elf"

	"github.com/lupatch/lupatch/internal/elfobj"
)

// comparer compares items of two versions of one unit.
type comparer struct {
	old, new *object
	lines    *LineMap
	extent   extent
	// same caches answers about private items; a pair under work counts as
	// equal, so that items that refer to each other terminate.
	same map[[2]*item]bool
}

// compare marks what differs. A function has changed if its code or what its
// code refers to has; data, if its initial value has.
func (c *comparer) compare() {
	// Data first: whether a function has changed depends on what it reads.
	for _, k := range []kind{data, function} {
		for _, it := range c.old.items {
			if it.kind == k && it.twin != nil {
				it.changed = !it.ignored && !c.equal(it, it.twin)
				it.twin.changed = it.changed
			}
		}
	}
	for _, it := range c.new.items {
		// A function and its split-off part are one.
		if p := it.parent; p != nil && p.twin != nil && !p.ignored && (it.twin == nil || it.changed) {
			p.changed, p.twin.changed = true, true
		}
	}
}

// equal compares bytes, then relocations by what they mean.
func (c *comparer) equal(a, b *item) bool {
	if a.size != b.size || a.kind != b.kind || (a.sec.Type == elf.SHT_NOBITS) != (b.sec.Type == elf.SHT_NOBITS) {
		return false
	}
	ra, rb := a.relocs(), b.relocs()
	if len(ra) != len(rb) {
		return false
	}
	if !bytes.Equal(blank(a), blank(b)) && !c.onlyLines(a, b) {
		return false
	}
	for i := range ra {
		if ra[i].Off-a.off != rb[i].Off-b.off || ra[i].Type != rb[i].Type || !c.sameTarget(a, b, ra[i], rb[i]) {
			return false
		}
	}
	return true
}

// blank gives the item's bytes with relocated fields zeroed.
func blank(it *item) []byte {
	code := bytes.Clone(it.code())
	for _, r := range it.relocs() {
		at := r.Off - it.off
		clear(code[min(at, uint64(len(code))):min(at+elfobj.Width(r.Type), uint64(len(code)))])
	}
	return code
}

func (c *comparer) sameTarget(a, b *item, ra, rb elfobj.Reloc) bool {
	ta, errA := c.old.resolve(a, ra)
	tb, errB := c.new.resolve(b, rb)
	if errA != nil || errB != nil {
		// Fall back to what stands in the file: equal only if it is the same
		// place of a section with the same content.
		return errA != nil && errB != nil && ra.Addend == rb.Addend && sameSection(ra.Sym.Section, rb.Sym.Section)
	}
	if ta.ext != nil || tb.ext != nil {
		// A global symbol may be undefined in one version and defined in the
		// other, and mean the same.
		return globalName(ta) != "" && globalName(ta) == globalName(tb) && ta.off == tb.off
	}
	x, y := ta.item, tb.item
	switch {
	case x.sec.Strings() && y.sec.Strings() && x.kind == anonymous && y.kind == anonymous:
		return sameString(ta, tb)
	case x.kind == anonymous && y.kind == anonymous && x.sec.Flags&elf.SHF_MERGE != 0:
		return sameConstant(ta, tb)
	case x.twin == y:
		return ta.off == tb.off && !(x.changed && copyable(x) && copyable(y))
	case private(x) && private(y) && baseName(x) == baseName(y):
		return ta.off == tb.off && c.samePrivate(x, y)
	}
	return false
}

// globalName is what other objects know a target by.
func globalName(t target) string {
	switch {
	case t.ext != nil:
		return t.ext.Name
	case t.item.global():
		return t.item.name
	}
	return ""
}

// samePrivate compares two items that have no twins by content.
func (c *comparer) samePrivate(a, b *item) bool {
	key := [2]*item{a, b}
	if v, ok := c.same[key]; ok {
		return v
	}
	c.same[key] = true
	if a.sec.Name == dyndbgSection && b.sec.Name == dyndbgSection {
		// Besides texts, which the line number in it says nothing about, a
		// dynamic debug descriptor holds only state.
		c.same[key] = c.sameRelocs(a, b)
	} else {
		c.same[key] = c.equal(a, b)
	}
	return c.same[key]
}

func (c *comparer) sameRelocs(a, b *item) bool {
	ra, rb := a.relocs(), b.relocs()
	if len(ra) != len(rb) {
		return false
	}
	for i := range ra {
		if !c.sameTarget(a, b, ra[i], rb[i]) {
			return false
		}
	}
	return true
}

func sameString(a, b target) bool {
	atA, okA := a.place()
	atB, okB := b.place()
	if !okA || !okB {
		return false
	}
	sa, okA := a.item.sec.CString(a.item.off + uint64(atA))
	sb, okB := b.item.sec.CString(b.item.off + uint64(atB))
	return okA && okB && sa == sb
}

func sameConstant(a, b target) bool {
	n := int64(a.item.sec.Entsize)
	atA, okA := a.place()
	atB, okB := b.place()
	if !okA || !okB || n == 0 || a.item.sec.Entsize != b.item.sec.Entsize {
		return false
	}
	x, y := a.item.sec.Data, b.item.sec.Data
	if atA < 0 || atB < 0 || atA+n > int64(len(x)) || atB+n > int64(len(y)) {
		return false
	}
	return bytes.Equal(x[atA:atA+n], y[atB:atB+n])
}

func sameSection(a, b *elfobj.Section) bool {
	return a != nil && b != nil && a.Name == b.Name && bytes.Equal(a.Data, b.Data)
}

// copyable reports read-only data of one unit without pointers, to which only
// code refers: a changed table of that kind can be carried along by the functions
// that read it, because nothing tells one copy from another but its content. To
// what a variable points the running kernel has other ways.
func copyable(it *item) bool {
	return it.kind == data && !it.pinned && !it.pointedTo && !it.global() && !it.sec.Writable() && len(it.relocs()) == 0 && it.life == always &&
		hasAnyPrefix(it.sec.Name, []string{".rodata"})
}

// notePointers marks what other data than that of __init code points to.
func (o *object) notePointers() {
	for _, from := range o.items {
		if from.kind == function || from.life != always || from.sec.Exec() {
			continue
		}
		for _, r := range from.relocs() {
			if t, err := o.resolve(from, r); err == nil && t.item != nil && t.item != from && t.item.kind == data {
				t.item.pointedTo = true
			}
		}
	}
}
