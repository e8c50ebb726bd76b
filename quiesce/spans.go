// SPDX-License-Identifier: Apache-2.0

package quiesce

import (
	"slices"
	"strings"

	"github.com/lupatch/lupatch/internal/kallsyms"
)

// span is a stretch of code that belongs to a function.
type span struct {
	fn *Function
	// start and end, which is the first address behind it; both 0 if addresses
	// are hidden.
	start, end uint64
	// what procfs calls it, and how long it says it is (0 if unknown)
	name, module string
	size         uint64
	// cold is a part that the compiler has split off. The kernel looks between
	// the function's address and the next symbol (old_size, new_size in
	// klp_check_stack_func) and does not see a task in there.
	cold bool
}

// resolve finds the code of the functions. One that is not in memory, because
// its module is not loaded, has none: the kernel does not look for it either.
func (o *Observer) resolve(functions []Function) {
	for _, f := range functions {
		fn := &f
		if o.symbols == nil {
			o.spans = append(o.spans, span{fn: fn, name: f.Name, module: f.home()},
				span{fn: fn, name: f.Name + ".cold", module: f.home(), cold: true})
			continue
		}
		found := o.find(f.Name, f.home())
		// The symbols of a livepatch are its own: where several have the name
		// all of them are taken.
		if f.Module == "" && f.Sympos > 0 {
			if f.Sympos > len(found) {
				continue
			}
			found = found[f.Sympos-1 : f.Sympos]
		}
		for _, s := range found {
			o.add(fn, s, false)
			if o.scheduler(s.Addr) {
				o.blind = append(o.blind, f)
			}
		}
		if len(found) == 0 {
			continue
		}
		for _, s := range o.find(f.Name+".cold", f.home()) {
			o.add(fn, s, true)
		}
	}
	slices.SortFunc(o.spans, func(a, b span) int {
		switch {
		case a.start < b.start:
			return -1
		case a.start > b.start:
			return 1
		}
		return 0
	})
}

func (o *Observer) find(name, module string) []kallsyms.Symbol {
	return slices.DeleteFunc(o.symbols.Lookup(name), func(s kallsyms.Symbol) bool { return s.Module != module || !s.IsText() })
}

func (o *Observer) add(fn *Function, s kallsyms.Symbol, cold bool) {
	end, ok := o.symbols.Next(s.Addr)
	if !ok {
		end = s.Addr + 1
	}
	// Where symbols share an address the kernel prints the first of them.
	shown := s
	if c, _, ok := o.symbols.Containing(s.Addr); ok {
		shown = c
	}
	o.spans = append(o.spans, span{fn: fn, start: s.Addr, end: end, name: shown.Name, module: shown.Module, size: end - s.Addr, cold: cold})
}

// scheduler says whether an address is in the section of the scheduler and of
// what sleeps for others (mutex_lock among them). Neither procfs nor BPF shows
// those frames (stack_trace_consume_entry_nosched, kernel/stacktrace.c).
func (o *Observer) scheduler(addr uint64) bool {
	a, b := o.symbols.Lookup("__sched_text_start"), o.symbols.Lookup("__sched_text_end")
	return len(a) == 1 && len(b) == 1 && addr >= a[0].Addr && addr < b[0].Addr
}

// hit says whether the frame is in one of the spans. innermost frames hold where
// the task goes on, all others where a call returns to: the address behind the
// last instruction of a function that ends in a call belongs to that function,
// though the kernel counts it as outside.
func (o *Observer) hit(f *frame, innermost bool) (s *span, hidden bool) {
	if f.addr == 0 {
		return o.hitByName(f)
	}
	i, _ := slices.BinarySearchFunc(o.spans, f.addr, func(s span, a uint64) int {
		if s.start <= a {
			return -1
		}
		return 1
	})
	if i == 0 {
		return nil, false
	}
	s = &o.spans[i-1]
	switch {
	case f.addr < s.end:
		return s, s.cold
	case f.addr == s.end && !innermost:
		return s, true
	}
	return nil, false
}

func (o *Observer) hitByName(f *frame) (*span, bool) {
	for i := range o.spans {
		s := &o.spans[i]
		name := f.function
		if s.cold && s.size == 0 {
			name = strings.TrimRight(name, ".0123456789") // F.cold.3 of older compilers
		}
		if s.name == name && s.module == f.module && (s.size == 0 || f.size == 0 || s.size == f.size) {
			return s, s.cold
		}
	}
	return nil, false
}
