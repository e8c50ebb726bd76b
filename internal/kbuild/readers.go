// SPDX-License-Identifier: Apache-2.0

package kbuild

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// readersOf lists what is built and may read any of the files.
func (t *Tree) readersOf(ctx context.Context, files []string) ([]*TU, error) {
	g, l, err := t.graph(ctx)
	if err != nil {
		return nil, err
	}
	objects := g.readers(t.paths(files))
	var out []*TU
	unlisted := false
	for _, o := range objects {
		if _, ok := l.Commands[o]; !ok {
			unlisted = true
			continue
		}
		tu, err := t.candidate(l, o)
		if err != nil {
			return nil, err
		}
		out = append(out, tu)
	}
	if unlisted {
		more, err := t.unlisted(ctx, l, objects)
		if err != nil {
			return nil, err
		}
		out = append(out, more...)
	}
	return out, nil
}

func (t *Tree) paths(files []string) []string {
	out := make([]string, len(files))
	for i, f := range files {
		out[i] = filepath.Join(t.Src, f)
	}
	return out
}

// unlisted gives those of the objects that the first listing cannot have: they
// need what only host tools make. The second build folder has those tools.
func (t *Tree) unlisted(ctx context.Context, l *listing, objects []string) ([]*TU, error) {
	full, err := t.wholeFull(ctx)
	if err != nil {
		return nil, err
	}
	var out []*TU
	for _, o := range objects {
		if _, ok := l.Commands[o]; ok {
			continue
		}
		if _, ok := full.Commands[o]; !ok {
			continue // the configuration leaves it out
		}
		tu, err := t.candidate(full, o)
		if err != nil {
			return nil, err
		}
		// Its headers are made when the first of them is missed.
		out = append(out, tu)
	}
	return out, nil
}

// wholeFull lists the whole tree in the second build folder.
func (t *Tree) wholeFull(ctx context.Context) (*listing, error) {
	if err := t.full(ctx); err != nil {
		return nil, fmt.Errorf("making the host tools that some files need: %w", err)
	}
	keep := ""
	if t.Kind == KindPackages {
		keep = "full"
	}
	return t.listFolder(ctx, ".", t.fullObj(), keep)
}

// settled gives a candidate all that compiling it takes.
func (t *Tree) settled(ctx context.Context, tu *TU) (*TU, error) {
	if tu.Unit != "" {
		return tu, nil
	}
	l, err := t.whole(ctx)
	if err == nil && tu.Obj != t.Obj {
		l, err = t.wholeFull(ctx)
	}
	if err != nil {
		return nil, err
	}
	return t.tuOf(ctx, l, ".", tu.Object)
}

// graph makes the graph of inclusions, once.
func (t *Tree) graph(ctx context.Context) (*graph, *listing, error) {
	l, err := t.whole(ctx)
	if err != nil {
		return nil, nil, err
	}
	t.graphMu.Lock()
	defer t.graphMu.Unlock()
	if t.included == nil {
		t.progress("following inclusions", 0, 0)
		kept := t.readInclusions()
		if t.included, err = t.makeGraph(ctx, l, kept); err != nil {
			return nil, nil, err
		}
		t.keepInclusions(kept)
	}
	return t.included, l, nil
}

// candidate reads an object's compilation. Unlike tuOf it takes objects that are
// made in steps which are none of lupatch's business, as the vDSO's are.
func (t *Tree) candidate(l *listing, obj string) (*TU, error) {
	text := unmark(l.Commands[obj], t.Src, l.obj)
	cmds, err := shellCommands(text)
	if err != nil {
		first, _, _ := strings.Cut(text, ";")
		if cmds, err = shellCommands(first); err != nil {
			return nil, fmt.Errorf("reading the command of %s: %w", obj, err)
		}
	}
	c := cmds[0]
	n := len(c)
	if n < 5 || c[n-3] != "-o" {
		return nil, fmt.Errorf("reading the command of %s: it is not a compiler's", obj)
	}
	return &TU{Object: obj, Obj: l.obj, Compile: c, Source: relative(c[n-1], t.Src)}, nil
}

// Included says whether any other file includes the source, so that a change to
// it may reach further than the file itself. The first call for a source takes
// as long as listing the whole tree; later ones read what is kept of that.
func (t *Tree) Included(ctx context.Context, source string) (bool, error) {
	kept := t.readInclusions()
	if t.Kind == KindTree { // its files may have changed since
		all := slices.Collect(maps.Keys(kept.Files))
		ids := make([]int32, len(all))
		for i := range ids {
			ids[i] = int32(i)
		}
		if _, err := kept.scan(ctx, all, ids); err != nil {
			kept.Files = nil // one is gone
		}
	}
	if len(kept.Files) > 0 && !kept.changed && !kept.name(path.Base(source)) {
		return false, nil
	}
	g, _, err := t.graph(ctx)
	if err != nil {
		return false, err
	}
	id, ok := g.ids[filepath.Join(t.Src, source)]
	if !ok {
		return false, nil
	}
	for from, tos := range g.reads {
		if int32(from) != id && slices.Contains(tos, id) {
			return true, nil
		}
	}
	return false, nil
}

// withheld lists C files in folders in which something cannot be listed, because
// what they need can only be made by host tools.
func (t *Tree) withheld(l *listing) (sources []string) {
	if t.Kind == KindModule {
		return nil
	}
	dirs := map[string]bool{}
	for p := range l.Blocked {
		dirs[path.Dir(p)] = true
	}
	for dir := range dirs {
		entries, err := os.ReadDir(filepath.Join(t.Src, dir))
		if err != nil {
			continue
		}
		for _, e := range entries {
			src := path.Join(dir, e.Name())
			if _, listed := l.Sources[src]; !listed && path.Ext(src) == ".c" {
				sources = append(sources, src)
			}
		}
	}
	slices.Sort(sources)
	return sources
}
