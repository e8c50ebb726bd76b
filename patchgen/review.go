// SPDX-License-Identifier: Apache-2.0

package patchgen

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
)

// ordering matches functions that lock, count references or order memory. If
// a change alters which of them are called, tasks in the old and in the new
// version may meet with different ideas of the rules: the livepatch core
// keeps each task in one version, not all of them.
var ordering = regexp.MustCompile(`^_{0,3}(raw_)?(spin|read|write)_(un|try)?lock|^(mutex|rt_mutex|ww_mutex)_|^(down|up)(_|$)|^(percpu_)?(down|up)_(read|write)|^(rcu|srcu|synchronize|call_s?rcu|kfree_call_rcu|kvfree_call_rcu)|^(refcount|kref|kobject)_|_(get|put)$|^(get|put)_|^(smp_|mb$)|^lock_sock|^release_sock|^rtnl_(un)?lock`)

// review lists points a person should look at before the update is applied.
func (p *plan) review() []string {
	var out []string
	for _, it := range p.redirected {
		a, b := p.old.calls(it.twin), p.new.calls(it)
		for _, name := range slices.Sorted(maps.Keys(union(a, b))) {
			if a[name] != b[name] && ordering.MatchString(name) {
				out = append(out, fmt.Sprintf("mixed-version concurrency: %s refers to %s %d times, before %d", it.name, name, b[name], a[name]))
			}
		}
	}
	return append(out, p.reviewExports()...)
}

func union[V any](a, b map[string]V) map[string]V {
	out := maps.Clone(a)
	maps.Copy(out, b)
	return out
}

// calls counts what a function and its parts refer to, by name.
func (o *object) calls(it *item) map[string]int {
	out := map[string]int{}
	for _, part := range append([]*item{it}, it.parts...) {
		for _, r := range part.relocs() {
			t, err := o.resolve(part, r)
			switch {
			case err != nil:
			case t.ext != nil:
				out[t.ext.Name]++
			case t.item.kind == function:
				out[baseName(t.item)]++
			}
		}
	}
	return out
}
