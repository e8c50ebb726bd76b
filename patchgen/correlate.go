// SPDX-License-Identifier: Apache-2.0

package patchgen

import (
	"maps"
	"regexp"
	"slices"
	"sort"
	"strconv"
	"strings"

	"github.com/lupatch/lupatch/internal/elfobj"
)

// correlate finds for the items of the old version their twins in the new
// one. Matching runs through a funnel, and only a match that is unique at its
// width counts: exact name, then name without the compiler's numbering, then
// the functions that use it, then order of declaration.
func correlate(old, new *object) {
	a, b := groups(old, exactName), groups(new, exactName)
	for key, olds := range a {
		if news := b[key]; len(olds) == 1 && len(news) == 1 && trusted(olds[0]) {
			pair(olds[0], news[0])
		}
	}
	correlateBy(old, new, baseKey)
	a, b = groups(old, baseKey), groups(new, baseKey)
	ua, ub := users(old, inBoth(a, b)), users(new, inBoth(b, a))
	withUsers := func(it *item) string {
		if it.obj == old {
			return baseKey(it) + "\x00" + ua[it]
		}
		return baseKey(it) + "\x00" + ub[it]
	}
	correlateBy(old, new, withUsers)
	correlateOrder(old, new, withUsers)
	for _, it := range old.items {
		// A part follows its function, whatever the clones are numbered.
		if it.parent != nil && it.parent.twin != nil {
			adopt(it)
		}
	}
}

func pair(a, b *item) { a.twin, b.twin = b, a }

func adopt(part *item) {
	parts := part.parent.twin.parts
	if len(part.parent.parts) != 1 || len(parts) != 1 || part.twin == parts[0] {
		return
	}
	if part.twin != nil {
		part.twin.twin = nil
	}
	if other := parts[0].twin; other != nil {
		other.twin = nil
	}
	pair(part, parts[0])
}

// trusted reports whether an exact name alone identifies an item. The number
// behind a static local changes with any declaration before it, so the same
// full name may be another variable.
func trusted(it *item) bool {
	return it.kind == function || !numbered.MatchString(it.name) && !btfID.MatchString(it.name)
}

// numbered matches gcc's names of static locals and of constants it made.
var numbered = regexp.MustCompile(`^(.+)\.\d+$`)

// clone matches the suffixes gcc gives to versions of a function it made.
var clone = regexp.MustCompile(`(\.(isra|constprop|part|cold|lto_priv)(\.\d+)?)+$`)

var cloneNumber = regexp.MustCompile(`\.\d+`)

// baseName is a name without the numbers the compiler gave: static locals
// lose their number, clones keep what kind they are.
func baseName(it *item) string {
	if it.base == "" {
		it.base = makeBaseName(it)
	}
	return it.base
}

func makeBaseName(it *item) string {
	name := it.name
	if !strings.ContainsRune(name, '.') && !strings.HasPrefix(name, "__") {
		return name // as nearly all are
	}
	if it.kind == function {
		m := clone.FindString(name)
		return strings.TrimSuffix(name, m) + cloneNumber.ReplaceAllString(m, "")
	}
	name = uniqueID.ReplaceAllString(name, "$1")
	name = btfID.ReplaceAllString(name, "$1")
	if m := numbered.FindStringSubmatch(name); m != nil {
		return m[1] + "."
	}
	return name
}

// uniqueID matches what the kernel's __UNIQUE_ID() appends: a counter.
var uniqueID = regexp.MustCompile(`^(__UNIQUE_ID_[A-Za-z_]+?)\d+`)

// btfID matches a place for the number of a type or function, with a counter
// behind it (BTF_ID(), include/linux/btf_ids.h).
var btfID = regexp.MustCompile(`^(__BTF_ID__.+)__\d+$`)

// copied lists static locals that belong to one function body and have no
// identity worth keeping: a new copy in the update does what the old one did.
var copied = []string{
	"__func__.", "__FUNCTION__.", "__PRETTY_FUNCTION__.", "__key.", "__warned.", "__already_done.",
	"__print_once.", "_rs.", "descriptor.", "CSWTCH.", "_entry.", "_entry_ptr.", "__compound_literal.",
	"__msg.", "___fmt.", "_fmt.", "C.",
}

// private reports whether an item is always carried along with the function
// that uses it, never taken from the running kernel.
func private(it *item) bool {
	if it.kind == anonymous {
		return true
	}
	if it.kind == function || it.global() {
		return false
	}
	if it.sec.Name == dyndbgSection {
		return true
	}
	base := baseName(it)
	for _, c := range copied {
		if base == c {
			return true
		}
	}
	return false
}

func exactName(it *item) string { return strconv.Itoa(int(it.kind)) + it.name }

func baseKey(it *item) string { return strconv.Itoa(int(it.kind)) + baseName(it) }

func groups(o *object, key func(*item) string) map[string][]*item {
	m := map[string][]*item{}
	for _, it := range o.items {
		if it.twin == nil && !private(it) {
			m[key(it)] = append(m[key(it)], it)
		}
	}
	return m
}

func correlateBy(old, new *object, key func(*item) string) {
	a, b := groups(old, key), groups(new, key)
	for k, olds := range a {
		if news := b[k]; len(olds) == 1 && len(news) == 1 {
			pair(olds[0], news[0])
		}
	}
}

// inBoth gives the sections of those items of a that have namesakes in b.
func inBoth(a, b map[string][]*item) map[*elfobj.Section]bool {
	out := map[*elfobj.Section]bool{}
	for k, list := range a {
		if len(b[k]) > 0 {
			for _, it := range list {
				out[it.sec] = true
			}
		}
	}
	return out
}

// users names for each item of some sections the functions that refer to it, in
// a form that is the same in both versions. Namesakes are told apart by them.
func users(o *object, sections map[*elfobj.Section]bool) map[*item]string {
	if len(sections) == 0 {
		return nil
	}
	sets := map[*item]map[string]bool{}
	for _, from := range o.items {
		if from.kind != function {
			continue
		}
		for _, r := range from.relocs() {
			if r.Sym.Section == nil || !sections[r.Sym.Section] {
				continue
			}
			t, err := o.resolve(from, r)
			if err != nil || t.item == nil {
				continue
			}
			if sets[t.item] == nil {
				sets[t.item] = map[string]bool{}
			}
			sets[t.item][baseName(from)] = true
		}
	}
	out := map[*item]string{}
	for it, set := range sets {
		out[it] = strings.Join(slices.Sorted(maps.Keys(set)), " ")
	}
	return out
}

// correlateOrder pairs namesakes that are equally many, of the same sizes and
// used by the same functions in the order of their numbers, which is the order
// of their declarations. If one was added or removed, all stay without a twin,
// and what needs them is refused.
func correlateOrder(old, new *object, withUsers func(*item) string) {
	a, b := groups(old, withUsers), groups(new, withUsers)
	for k, olds := range a {
		news := b[k]
		if len(news) != len(olds) {
			continue
		}
		byNumber(olds)
		byNumber(news)
		same := true
		for i := range olds {
			same = same && olds[i].size == news[i].size
		}
		if same {
			for i := range olds {
				pair(olds[i], news[i])
			}
		}
	}
}

// number is the compiler's number in a name, 0 if there is none.
func number(it *item) int {
	n, _ := strconv.Atoi(it.name[strings.LastIndexByte(it.name, '.')+1:])
	return n
}

func byNumber(list []*item) {
	sort.SliceStable(list, func(i, j int) bool { return number(list[i]) < number(list[j]) })
}
