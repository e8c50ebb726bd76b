// SPDX-License-Identifier: Apache-2.0

package patchgen

import (
	"fmt"
	"slices"

	"github.com/lupatch/lupatch/internal/elfobj"
	"github.com/lupatch/lupatch/internal/refuse"
)

// notePrefix begins the names of the sections in which the macros of
// include/kpatch-macros.h leave what the patch's author asks for.
const notePrefix = ".lupatch."

// CallbackKinds are the kinds of callbacks, in the order in which they run.
var CallbackKinds = []string{"pre_patch", "post_patch", "pre_unpatch", "post_unpatch"}

// Callback is a function that the livepatch core is to call.
type Callback struct {
	// Kind is one of CallbackKinds.
	Kind string
	// Name is the function's; Alias the global symbol of its code.
	Name, Alias string
}

// wishes is what the author of a patch asks for beyond its code.
type wishes struct {
	// callbacks maps kinds to functions of the new version.
	callbacks map[string]*item
	sections  []string
	functions []*item
	unsafe    []*item
}

// wishesOf reads the notes of a version.
func wishesOf(o *object) (*wishes, error) {
	w := &wishes{callbacks: map[string]*item{}}
	for _, s := range o.file.Sections {
		kind, ok := cutNote(s)
		if !ok {
			continue
		}
		if kind == "ignore_section" {
			w.sections = append(w.sections, texts(s.Data)...)
			continue
		}
		for _, r := range s.Relocs {
			t, err := o.resolve(nil, r)
			if at, ok := t.place(); err != nil || t.item == nil || t.item.kind != function || !ok || at != 0 {
				return nil, refuse.New(refuse.AuthorNote, s.Name, "it names something that is not a function of this file")
			}
			switch {
			case kind == "ignore_function":
				w.functions = append(w.functions, t.item)
			case kind == "force_unsafe":
				w.unsafe = append(w.unsafe, t.item)
			case !slices.Contains(CallbackKinds, kind):
				return nil, refuse.New(refuse.AuthorNote, s.Name, "this version of lupatch does not know what it asks for")
			case w.callbacks[kind] != nil:
				return nil, refuse.New(refuse.AuthorNote, t.item.name, "the file has a second callback of this kind (%s)", kind)
			default:
				w.callbacks[kind] = t.item
			}
		}
	}
	return w, nil
}

func cutNote(s *elfobj.Section) (kind string, ok bool) {
	if !hasAnyPrefix(s.Name, []string{notePrefix}) || !s.Alloc() {
		return "", false
	}
	return s.Name[len(notePrefix):], true
}

// texts are the strings in a section, each ended by a zero.
func texts(b []byte) (out []string) {
	start := 0
	for i, c := range b {
		if c == 0 {
			if i > start {
				out = append(out, string(b[start:i]))
			}
			start = i + 1
		}
	}
	return out
}

// mark puts down what is not to count as changed, and what is never to travel
// with the functions that read it.
func (w *wishes) mark(old *object) error {
	if err := w.check(); err != nil {
		return err
	}
	for _, it := range w.functions {
		if it.twin == nil {
			return refuse.New(refuse.AuthorNote, it.name, "KPATCH_IGNORE_FUNCTION is for a function that the running kernel has")
		}
		for _, x := range append([]*item{it}, it.parts...) {
			x.ignored = true
		}
		for _, x := range append([]*item{it.twin}, it.twin.parts...) {
			x.ignored = true
		}
	}
	for _, it := range old.items {
		if it.kind == data && it.twin != nil && (slices.Contains(w.sections, it.sec.Name) || slices.Contains(w.sections, it.twin.sec.Name)) {
			it.ignored, it.twin.ignored = true, true
		}
	}
	return nil
}

// check refuses callbacks that the update cannot hold.
func (w *wishes) check() error {
	for _, kind := range CallbackKinds {
		if it := w.callbacks[kind]; it != nil && it.twin != nil {
			return refuse.New(refuse.AuthorNote, it.name, "a callback has to be a new function; the running kernel has this one already")
		}
	}
	return nil
}

// review says what was left out on the author's word.
func (w *wishes) review() (out []string) {
	for _, it := range w.functions {
		out = append(out, fmt.Sprintf("a change of function %s is left out, as the patch says (KPATCH_IGNORE_FUNCTION)", it.name))
	}
	for _, s := range w.sections {
		out = append(out, fmt.Sprintf("variables in %s keep their values, as the patch says (KPATCH_IGNORE_SECTION)", s))
	}
	for _, it := range w.unsafe {
		out = append(out, fmt.Sprintf("KPATCH_FORCE_UNSAFE does nothing here: tasks inside %s hold the update up like any other", it.name))
	}
	return out
}
