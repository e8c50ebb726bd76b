// SPDX-License-Identifier: Apache-2.0

// Package review compares two versions of C source, function by function, for
// what tasks in the old and in the new version of a function could disagree
// about while both run: locks, reference counts, RCU and the order of memory
// accesses. The livepatch core keeps each task in one version, not all of
// them, and says nothing of interrupts and timers.
//
// Source is compared because code shows only part of it. On x86-64 spinlocks,
// mutexes and rcu_read_lock() of a preemptible kernel are calls, but smp_wmb(),
// READ_ONCE() and smp_store_release() compile to plain moves, and reference
// counts to locked instructions that may be anything else.
package review

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Kind is what a point is about.
type Kind string

const (
	Locking  Kind = "locking"
	Counting Kind = "reference counting"
	RCU      Kind = "RCU"
	Ordering Kind = "memory barriers"
)

// Kinds are all of them, in the order in which points are listed.
var Kinds = []Kind{Locking, Counting, RCU, Ordering}

// Point is one difference: what of one kind a function does otherwise.
type Point struct {
	Function string
	// File is the source that defines the function; empty if it was found in
	// the machine code.
	File string
	Kind Kind
	// Macro is set if the function is one that a #define makes.
	Macro bool
	// Added, Removed and Moved are the primitives' names, sorted, as
	// "mutex_lock" or "2 mutex_lock". A moved one is there in both versions at
	// another place, or guards by another lock.
	Added, Removed, Moved []string
}

// Changes says what differs, as "+mutex_lock -spin_lock, moved spin_unlock".
func (p Point) Changes() string {
	var words []string
	for _, n := range p.Added {
		words = append(words, "+"+n)
	}
	for _, n := range p.Removed {
		words = append(words, "-"+n)
	}
	s := strings.Join(words, " ")
	if len(p.Moved) > 0 {
		if s != "" {
			s += ", "
		}
		s += "moved " + strings.Join(p.Moved, " ")
	}
	return s
}

// Source is one file in both versions.
type Source struct {
	Path     string
	Old, New []byte
}

// Compare lists the points of all functions and macros in the files of one
// patch, in the order of files and of the new version's functions. Code that
// moves into a function which only one version has counts as its callers': to
// split a function is no difference. A function that is there in one version
// alone has no points of its own.
func Compare(files []Source) []Point {
	old, new := &program{}, &program{}
	for _, f := range files {
		old.add(f.Path, f.Old)
		new.add(f.Path, f.New)
	}
	old.finish(new)
	new.finish(old)
	var out []Point
	for _, f := range new.list {
		was := old.twin(f)
		if was == nil || sameText(was.tokens, f.tokens) && !old.usesOwn(was) && !new.usesOwn(f) {
			continue
		}
		out = append(out, points(f, old.elements(was), new.elements(f))...)
	}
	return out
}

// points compares a function's two versions.
func points(f *function, a, b []element) []Point {
	gone, come := map[Kind]map[string]int{}, map[Kind]map[string]int{}
	note := func(in map[Kind]map[string]int, list []element) {
		for _, e := range list {
			if e.kind == "" {
				continue
			}
			if in[e.kind] == nil {
				in[e.kind] = map[string]int{}
			}
			in[e.kind][e.name]++
		}
	}
	for _, c := range differences(a, b) {
		note(gone, c.gone)
		note(come, c.come)
		note(come, c.jumped(b))
	}
	var out []Point
	for _, k := range Kinds {
		p := Point{Function: f.name, File: f.file, Kind: k, Macro: f.macro}
		names := maps.Clone(gone[k])
		if names == nil {
			names = map[string]int{}
		}
		maps.Copy(names, come[k])
		for _, n := range slices.Sorted(maps.Keys(names)) {
			switch diff := come[k][n] - gone[k][n]; {
			case diff > 0:
				p.Added = append(p.Added, times(diff, n))
			case diff < 0:
				p.Removed = append(p.Removed, times(-diff, n))
			default:
				p.Moved = append(p.Moved, n)
			}
		}
		if len(names) > 0 {
			out = append(out, p)
		}
	}
	return out
}

func times(n int, name string) string {
	if n == 1 {
		return name
	}
	return fmt.Sprintf("%d %s", n, name)
}
