// SPDX-License-Identifier: Apache-2.0

package quiesce

import (
	"cmp"
	"slices"
	"strings"
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

// Marks around the section of the scheduler and of what sleeps for others
// (mutex_lock among them). Neither procfs nor BPF shows frames in there
// (stack_trace_consume_entry_nosched, kernel/stacktrace.c).
const schedBegin, schedEnd = "__sched_text_start", "__sched_text_end"

// resolve finds the code of the functions. One that is not in memory, because
// its module is not loaded, has none: the kernel does not look for it either.
func (o *Observer) resolve() {
	names := map[string]bool{schedBegin: true, schedEnd: true}
	for i := range o.functions {
		f := &o.functions[i]
		if o.symbols == nil {
			o.spans = append(o.spans, span{fn: f, name: f.Name, module: f.home()},
				span{fn: f, name: f.Name + ".cold", module: f.home(), cold: true})
		}
		names[f.Name], names[f.Name+".cold"] = true, true
	}
	if o.symbols == nil {
		return
	}
	all := o.symbols.find(names)
	of := func(name, module string) (out []symbol) {
		for _, s := range all {
			if s.name == name && s.module == module && s.text {
				out = append(out, s)
			}
		}
		return out
	}
	begin, end := of(schedBegin, ""), of(schedEnd, "")
	for i := range o.functions {
		f := &o.functions[i]
		found := of(f.Name, f.home())
		// The symbols of a livepatch are its own: where several have the name
		// all of them are taken.
		if f.Module == "" && f.Sympos > 0 {
			if f.Sympos > len(found) {
				continue
			}
			found = found[f.Sympos-1 : f.Sympos]
		}
		for _, s := range found {
			o.spans = append(o.spans, span{fn: f, start: s.start, end: s.end, name: s.shown, module: s.module, size: s.end - s.start})
			if len(begin) == 1 && len(end) == 1 && s.start >= begin[0].start && s.start < end[0].start {
				o.blind = append(o.blind, *f)
			}
		}
		if len(found) == 0 {
			continue
		}
		for _, s := range of(f.Name+".cold", f.home()) {
			o.spans = append(o.spans, span{fn: f, start: s.start, end: s.end, name: s.shown, module: s.module, size: s.end - s.start, cold: true})
		}
	}
	slices.SortFunc(o.spans, func(a, b span) int { return cmp.Compare(a.start, b.start) })
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
