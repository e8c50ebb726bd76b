// SPDX-License-Identifier: Apache-2.0

package kallsyms

import (
	"slices"
	"sort"
	"sync"
)

// Table is a list of symbols in the order of kallsyms: ascending address within
// vmlinux, and within it the linker's order for equal addresses, because that
// is the order in which livepatch counts namesakes. It is safe for concurrent
// use.
type Table struct {
	syms []Symbol

	nameOnce sync.Once
	byName   map[string][]int32

	addrOnce sync.Once
	byAddr   []int32
}

// NewTable makes a table of symbols that are already in kallsyms order. The
// slice belongs to the table afterwards.
func NewTable(syms []Symbol) *Table { return &Table{syms: syms} }

// Symbols lists all symbols in order. The slice must not be changed.
func (t *Table) Symbols() []Symbol { return t.syms }

// Len is the number of symbols.
func (t *Table) Len() int { return len(t.syms) }

func (t *Table) names() map[string][]int32 {
	t.nameOnce.Do(func() {
		m := make(map[string][]int32, len(t.syms))
		for i := range t.syms {
			m[t.syms[i].Name] = append(m[t.syms[i].Name], int32(i))
		}
		t.byName = m
	})
	return t.byName
}

// Lookup lists the symbols of that name, of vmlinux and of every module, in
// order. It is nil if there is none.
func (t *Table) Lookup(name string) []Symbol {
	idx := t.names()[name]
	if len(idx) == 0 {
		return nil
	}
	out := make([]Symbol, len(idx))
	for i, k := range idx {
		out[i] = t.syms[k]
	}
	return out
}

// Sympos says which of the namesakes in vmlinux is the one at addr, as
// klp_find_callback in kernel/livepatch/core.c counts: pos starts at 1 and is 0
// if the name is unique. n is the number of namesakes, and 0 if there is none
// at addr.
func (t *Table) Sympos(name string, addr uint64) (pos, n int) {
	return t.SymposModule("", name, addr)
}

// SymposModule is Sympos within one module ("" is vmlinux).
func (t *Table) SymposModule(module, name string, addr uint64) (pos, n int) {
	for _, k := range t.names()[name] {
		if t.syms[k].Module != module {
			continue
		}
		n++
		if t.syms[k].Addr == addr && pos == 0 {
			pos = n
		}
	}
	switch {
	case pos == 0:
		return 0, 0
	case n == 1:
		return 0, 1
	}
	return pos, n
}

func (t *Table) addrs() []int32 {
	t.addrOnce.Do(func() {
		order := make([]int32, len(t.syms))
		for i := range order {
			order[i] = int32(i)
		}
		slices.SortStableFunc(order, func(a, b int32) int {
			switch x, y := t.syms[a].Addr, t.syms[b].Addr; {
			case x < y:
				return -1
			case x > y:
				return 1
			}
			return 0
		})
		t.byAddr = order
	})
	return t.byAddr
}

// At lists the symbols that start exactly at addr.
func (t *Table) At(addr uint64) []Symbol {
	order := t.addrs()
	i := sort.Search(len(order), func(i int) bool { return t.syms[order[i]].Addr >= addr })
	var out []Symbol
	for ; i < len(order) && t.syms[order[i]].Addr == addr; i++ {
		out = append(out, t.syms[order[i]])
	}
	return out
}

// Containing gives the last symbol at or before addr and the distance to it in
// bytes. It says nothing about where that symbol ends: kallsyms has no sizes.
func (t *Table) Containing(addr uint64) (s Symbol, offset uint64, ok bool) {
	order := t.addrs()
	i := sort.Search(len(order), func(i int) bool { return t.syms[order[i]].Addr > addr })
	if i == 0 {
		return Symbol{}, 0, false
	}
	// The first of several symbols at one address is the one the kernel names.
	s = t.syms[order[i-1]]
	for i--; i > 0 && t.syms[order[i-1]].Addr == s.Addr; i-- {
		s = t.syms[order[i-1]]
	}
	return s, addr - s.Addr, true
}

// Next is the lowest address above addr at which a symbol starts: an upper
// bound for the end of what is at addr.
func (t *Table) Next(addr uint64) (next uint64, ok bool) {
	order := t.addrs()
	i := sort.Search(len(order), func(i int) bool { return t.syms[order[i]].Addr > addr })
	if i == len(order) {
		return 0, false
	}
	return t.syms[order[i]].Addr, true
}
