// SPDX-License-Identifier: Apache-2.0

package kbuild

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"
)

// Users finds the files of some units ("vmlinux" and modules) whose code uses one
// of the functions or variables, by their text: where a name stands in a file,
// in a macro or static inline function that it uses, or may be made by ##, the
// file is preprocessed to see. A use that the compiler drops later counts. skip
// lists sources that are not looked at. It is sorted by object.
//
// Assembly is among them, with neither Unit nor Objtool.
func (t *Tree) Users(ctx context.Context, units, names, skip []string) ([]*TU, error) {
	out, _, err := t.UsersWithin(ctx, units, names, skip, 0)
	return out, err
}

// UsersWithin is Users if no more than most files have to be preprocessed to find
// out (0: any number). Otherwise it gives their number alone.
func (t *Tree) UsersWithin(ctx context.Context, units, names, skip []string, most int) (users []*TU, tooMany int, err error) {
	g, l, err := t.graph(ctx)
	if err != nil {
		return nil, 0, err
	}
	cands, err := t.filesOf(ctx, g, l, units)
	if err != nil {
		return nil, 0, err
	}
	cands = slices.DeleteFunc(cands, func(u *TU) bool {
		return slices.Contains(skip, u.Source) || bootOnly(u) || strings.HasSuffix(u.Source, ".c") && !u.ordinary()
	})
	if cands, err = t.mention(ctx, g, cands, names); err != nil {
		return nil, 0, err
	}
	if most > 0 && len(cands) > most {
		return nil, len(cands), nil
	}
	out, err := t.usersAmong(ctx, cands, names)
	if err != nil {
		return nil, 0, err
	}
	for i, u := range out {
		if strings.HasSuffix(u.Source, ".S") {
			continue
		}
		if out[i], err = t.settled(ctx, u); err != nil {
			return nil, 0, err
		}
	}
	slices.SortFunc(out, func(a, b *TU) int { return strings.Compare(a.Object, b.Object) })
	return out, 0, nil
}

// filesOf lists all that the units are made of.
func (t *Tree) filesOf(ctx context.Context, g *graph, l *listing, units []string) ([]*TU, error) {
	part := func(l *listing) map[string]bool {
		out := map[string]bool{}
		for m, objs := range l.Modules {
			if slices.Contains(units, moduleName(m)) {
				for _, o := range objs {
					out[o] = true
				}
			}
		}
		return out
	}
	wanted := part(l)
	builtin := slices.Contains(units, Vmlinux)
	var out []*TU
	var rest []string
	for _, u := range g.units {
		text, listed := l.Commands[u.object]
		switch {
		case !listed:
			rest = append(rest, u.object)
			continue
		case !wanted[u.object] && (!builtin || strings.Contains(text, "-DMODULE")):
			continue
		}
		tu, err := t.candidate(l, u.object)
		if err != nil {
			return nil, err
		}
		out = append(out, tu)
	}
	if len(rest) == 0 || t.Kind == KindModule {
		return out, nil
	}
	more, err := t.unlisted(ctx, l, rest)
	if err != nil {
		return nil, err
	}
	full, err := t.wholeFull(ctx)
	if err != nil {
		return nil, err
	}
	wanted = part(full)
	for _, tu := range more {
		if wanted[tu.Object] || builtin && !slices.Contains(tu.Compile, "-DMODULE") {
			out = append(out, tu)
		}
	}
	return out, nil
}

// mention leaves out the units in whose files none of the names stands so that
// code may come of it.
func (t *Tree) mention(ctx context.Context, g *graph, cands []*TU, names []string) ([]*TU, error) {
	t.progress("looking for users of what changes", 0, 0)
	n := &noticing{names: map[string]bool{}, fresh: map[string]bool{}, declared: map[string]bool{}, active: map[int32]bool{}}
	for _, name := range names {
		n.names[name] = true
	}
	n.files, n.given = g.readBy(ctx, cands), commandLineMacros(cands)
	ok, err := n.follow()
	if err != nil {
		return nil, fmt.Errorf("looking for users of what changes: %w", err)
	}
	if !ok {
		return cands, nil // all have to be preprocessed
	}
	var files []string
	for id := range n.active {
		files = append(files, g.paths[id])
	}
	objects := g.readers(files)
	return slices.DeleteFunc(cands, func(u *TU) bool {
		_, found := slices.BinarySearch(objects, u.Object)
		return !found && !n.onCommandLine(u)
	}), nil
}

// usersAmong preprocesses the candidates.
func (t *Tree) usersAmong(ctx context.Context, cands []*TU, names []string) ([]*TU, error) {
	var mu sync.Mutex
	var out []*TU
	done := int64(0)
	set := map[string]bool{}
	for _, n := range names {
		set[n] = true
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(t.opt.Jobs)
	for _, tu := range cands {
		g.Go(func() error {
			tu, text, err := t.original(ctx, tu)
			if err != nil {
				return err
			}
			yes := usesAny(tu, text, set)
			mu.Lock()
			defer mu.Unlock()
			done++
			t.progress("looking for users of what changes", done, int64(len(cands)))
			if yes {
				out = append(out, tu)
			}
			return nil
		})
	}
	return out, g.Wait()
}

// usesAny says whether code of a preprocessed text uses one of the names.
func usesAny(tu *TU, text []byte, names map[string]bool) bool {
	if strings.HasSuffix(tu.Source, ".S") {
		return mentionsAny(text, names)
	}
	if used(declarations(text), names) {
		return true
	}
	for n := range names {
		if bytes.Contains(text, []byte(BTFPrefix+n+"__")) {
			return true
		}
	}
	return false
}

// BTFPrefix begins the symbols by which a file tells BPF of a function
// (include/linux/btf_ids.h, __BTF_ID); the function's name and two underscores
// follow.
const BTFPrefix = "__BTF_ID__func__"

// original preprocesses a unit of the unaltered source. The unit given back is
// the one to compile: another build folder's, if headers are missing in this one.
func (t *Tree) original(ctx context.Context, tu *TU) (*TU, []byte, error) {
	text, _, err := t.invoke(tu, nil, nil).preprocess(ctx, neutral...)
	var ce *CompileError
	if errors.As(err, &ce) && ce.Missing != "" && tu.Obj == t.Obj && t.Kind != KindModule {
		full, ferr := t.fullTU(ctx, Job{TU: tu}, ce)
		if ferr != nil {
			return nil, nil, ferr
		}
		if full != nil {
			tu = full
			text, _, err = t.invoke(tu, nil, nil).preprocess(ctx, neutral...)
		}
	}
	return tu, text, err
}
