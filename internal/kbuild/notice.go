// SPDX-License-Identifier: Apache-2.0

package kbuild

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// fewReaders is how many units are compared without asking first which of them
// can notice the change: that takes as long as comparing some dozens.
const fewReaders = 60

// maxNames bounds the names that are followed.
const maxNames = 150

// mayNotice leaves out units whose code cannot differ, without preprocessing
// them. If all that differs in the changed files is macros, static inline
// functions, prototypes and types, then only files that use one of their names
// can notice; a name used by another macro or static inline function of a header
// leads on to that one's name. Conditions do not matter: a file that would only
// use a name under another configuration counts.
//
// A name need not stand in a file to be used: ## may make it. So all that ##
// can make counts as well.
func (t *Tree) mayNotice(ctx context.Context, ov *Overlay, files []string, cands []*TU) ([]*TU, error) {
	if len(cands) <= fewReaders {
		return cands, nil
	}
	names, fresh, ok, err := t.changedNames(ov, files)
	if err != nil || !ok {
		return cands, err
	}
	g, _, err := t.graph(ctx)
	if err != nil {
		return nil, err
	}
	t.progress("looking for users of what changes", 0, 0)
	n := &noticing{names: names, fresh: fresh, declared: map[string]bool{}, active: map[int32]bool{}}
	n.files, n.given = g.readBy(ctx, cands), commandLineMacros(cands)
	for _, f := range files {
		if id, ok := g.ids[t.paths([]string{f})[0]]; ok && ov.changed[f] != nil {
			n.files.changed[id] = ov.changed[f]
		}
	}
	if ok, err := n.follow(); err != nil {
		return nil, fmt.Errorf("looking for users of what changes: %w", err)
	} else if !ok {
		return cands, nil
	}
	var users []string
	for id := range n.active {
		users = append(users, g.paths[id])
	}
	objects := g.readers(users)
	return slices.DeleteFunc(slices.Clone(cands), func(u *TU) bool {
		_, found := slices.BinarySearch(objects, u.Object)
		return !found && !n.onCommandLine(u)
	}), nil
}

// changedNames gives the names of all that differs in the files.
func (t *Tree) changedNames(ov *Overlay, files []string) (names, fresh map[string]bool, ok bool, err error) {
	names, fresh = map[string]bool{}, map[string]bool{}
	for _, f := range files {
		if !strings.HasSuffix(f, ".h") || ov.changed[f] == nil {
			return nil, nil, false, nil
		}
		old, err := t.read(f)
		if err != nil {
			return nil, nil, false, err
		}
		n, fr, ok := changedItems(old, ov.changed[f])
		if !ok {
			return nil, nil, false, nil
		}
		for k := range n {
			names[k] = true
		}
		for k, v := range fr {
			fresh[k] = fresh[k] || v
		}
	}
	return names, fresh, true, nil
}

// noticing follows names through files.
type noticing struct {
	files *fileTexts
	names map[string]bool
	// fresh are macros that only one version defines: whether they are defined
	// matters, too.
	fresh map[string]bool
	// declared are names of functions and types. Where one is a macro as well,
	// the declaration may be one of another name.
	declared map[string]bool
	// given are macros of the units' command lines.
	given map[string]bool
	// active are the files in which a name is used so that code may differ.
	active map[int32]bool
}

// mention is what a file does with the names.
type mention struct {
	leads, declared []string
	active          bool
}

// follow finds all active files; false means that there are too many names, or
// names that cannot be followed.
func (n *noticing) follow() (bool, error) {
	news := keys(n.names)
	for len(news) > 0 {
		if len(n.names) > maxNames {
			return false, nil
		}
		words := wordSearch(news)
		res, err := searchEach(n.files, func(id int32, versions [][]byte) *mention {
			m := &mention{}
			for _, text := range versions {
				if words.in(text) {
					n.look(m, n.files.paths[id], text, words.set)
				}
			}
			return m
		})
		if err != nil {
			return false, err
		}
		news = nil
		for id, m := range res {
			if m.active {
				n.active[id] = true
			}
			for _, l := range m.declared {
				n.declared[l] = true
			}
			for _, l := range append(m.leads, m.declared...) {
				if !n.names[l] {
					n.names[l] = true
					news = append(news, l)
				}
			}
		}
		if len(news) > 0 {
			continue
		}
		both, err := search(n.files, func(text []byte) *bool {
			if yes := definesAny(text, n.declared); yes {
				return &yes
			}
			return nil
		})
		if err != nil {
			return false, err
		}
		for id := range both {
			n.active[id] = true
		}
	}
	err := n.glued()
	if errors.Is(err, errManyOpen) {
		return false, nil
	}
	return true, err
}

// look finds what a file does with the names. Only in headers are there parts
// that lead to no code; assembly and sources are taken as a whole.
func (n *noticing) look(m *mention, path string, text []byte, names map[string]bool) {
	var all []item
	if strings.HasSuffix(path, ".h") {
		all = items(text)
	}
	if all == nil {
		dirs, rest := directives(text)
		all = []item{{toks: rest}}
		for _, d := range dirs {
			it := directiveItem(d)
			it.macro = ""
			all = append(all, it)
		}
	}
	for _, it := range all {
		if len(it.toks) > 1 && it.toks[0].kind == tokHash && string(it.toks[1].text) == "include" && includesByName(it.toks) {
			continue
		}
		if it.tests != "" && !n.fresh[it.tests] {
			continue
		}
		if !slices.ContainsFunc(it.toks, func(t token) bool { return mentions(t, names) }) {
			continue
		}
		switch {
		case it.macro != "":
			m.leads = append(m.leads, it.macro)
		case len(it.gives) > 0:
			m.declared = append(m.declared, it.gives...)
		default:
			m.active = true
			return
		}
	}
}

// includesByName says that a file's name stands in the #include, which is no use
// of the words in it; else a macro does.
func includesByName(dir []token) bool {
	return len(dir) > 2 && (dir[2].is('<') || dir[2].kind == tokString)
}

func mentions(t token, names map[string]bool) bool {
	switch t.kind {
	case tokIdent:
		return names[string(t.text)]
	case tokString:
		return mentionsAny(t.text, names)
	}
	return false
}

// glued adds the files in which ## may make one of the names.
func (n *noticing) glued() error {
	g, err := findGlue(n.files, keys(n.names), n.given)
	if err != nil {
		return err
	}
	for id := range g.makers {
		n.active[id] = true
	}
	return nil
}

// onCommandLine says whether the compiler's command line has one of the names.
func (n *noticing) onCommandLine(u *TU) bool {
	return slices.ContainsFunc(u.Compile, func(w string) bool {
		return strings.HasPrefix(w, "-D") && mentionsAny([]byte(w[2:]), n.names)
	})
}

func commandLineMacros(units []*TU) map[string]bool {
	out := map[string]bool{}
	for _, u := range units {
		for _, w := range u.Compile {
			if def, ok := strings.CutPrefix(w, "-D"); ok {
				name, _, _ := strings.Cut(def, "=")
				out[name] = true
			}
		}
	}
	return out
}

// readBy lists all files that the units may read.
func (g *graph) readBy(ctx context.Context, units []*TU) *fileTexts {
	want := map[string]bool{}
	for _, u := range units {
		want[u.Object] = true
	}
	seen := make([]bool, len(g.paths))
	var queue []int32
	for _, u := range g.units {
		if want[u.object] {
			queue = append(queue, u.start...)
		}
	}
	out := &fileTexts{ctx: ctx, paths: g.paths, changed: map[int32][]byte{}}
	for len(queue) > 0 {
		id := queue[len(queue)-1]
		queue = queue[:len(queue)-1]
		if !seen[id] {
			seen[id] = true
			out.ids = append(out.ids, id)
			queue = append(queue, g.reads[id]...)
		}
	}
	return out
}
