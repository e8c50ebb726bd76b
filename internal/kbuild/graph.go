// SPDX-License-Identifier: Apache-2.0

package kbuild

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"
)

// graph says which files read which, for all compilations of a listing. It has
// every inclusion that any of them could make, whatever conditions it stands
// under: who reads a file is never left out, some who do not may be named.
type graph struct {
	paths []string
	ids   map[string]int32
	reads [][]int32
	units []graphUnit
	// unclear are files with an inclusion whose name cannot be told from the
	// text: what reads them may read anything.
	unclear map[int32]bool
}

// graphUnit is a compilation: an object of the listing and the files that it
// starts from, which are its source and those that the command line names.
type graphUnit struct {
	object string
	start  []int32
}

// builder makes a graph.
type builder struct {
	*graph
	files    *fileSystem
	search   searchTree // for names in quotes
	angles   searchTree // for names in angle brackets
	traceDir string
	known    map[inclusion][]int32
	macros   map[string]bool
	asked    map[int32][]string // computed inclusions
}

// makeGraph follows the inclusions from all units of the listing that are part
// of the kernel. kept holds what files were found to include before; it is
// brought up to date.
func (t *Tree) makeGraph(ctx context.Context, l *listing, kept *inclusions) (*graph, error) {
	b := &builder{
		graph: &graph{ids: map[string]int32{}, unclear: map[int32]bool{}},
		files: newFileSystem(), traceDir: filepath.Join(t.KernelSrc, "include/trace"),
		known: map[inclusion][]int32{}, macros: map[string]bool{}, asked: map[int32][]string{},
	}
	var level []int32
	for obj, text := range l.Commands {
		words := firstCommand(unmark(text, t.Src, l.obj))
		if len(words) == 0 || !forKernel(words) {
			continue
		}
		src := words[len(words)-1]
		quote, dirs, first := searchPath(words, l.obj)
		b.search.add(b.files, append(quote, dirs...))
		b.angles.add(b.files, dirs)
		u := graphUnit{object: obj}
		for _, f := range append(first, src) {
			if !filepath.IsAbs(f) {
				f = l.obj + "/" + f
			}
			if real, ok := b.files.file(f); ok {
				id, fresh := b.node(real)
				if fresh {
					level = append(level, id)
				}
				u.start = append(u.start, id)
			}
		}
		b.units = append(b.units, u)
	}
	more := t.withheld(l)
	if t.Kind != KindModule {
		more = append(more, offsetSources...)
	}
	for _, src := range more {
		if real, ok := b.files.file(filepath.Join(t.Src, src)); ok {
			id, fresh := b.node(real)
			if fresh {
				level = append(level, id)
			}
			if slices.Contains(offsetSources, src) {
				continue // no object is made of it
			}
			b.units = append(b.units, graphUnit{object: strings.TrimSuffix(src, ".c") + ".o", start: []int32{id}})
		}
	}
	for len(level) > 0 {
		found, err := kept.scan(ctx, b.paths, level)
		if err != nil {
			return nil, err
		}
		var next []int32
		for i, id := range level {
			next = b.link(id, found[i], next)
		}
		level = next
	}
	for id, names := range b.asked {
		for _, n := range names {
			if !b.macros[n] {
				b.unclear[id] = true
			}
		}
	}
	return b.graph, nil
}

// node gives the number of a file.
func (b *builder) node(p string) (id int32, fresh bool) {
	if id, ok := b.ids[p]; ok {
		return id, false
	}
	id = int32(len(b.paths))
	b.ids[p] = id
	b.paths = append(b.paths, p)
	b.reads = append(b.reads, nil)
	return id, true
}

// link notes what a file includes, and adds the files seen for the first time.
func (b *builder) link(id int32, incs []inclusion, next []int32) []int32 {
	seen := map[int32]bool{}
	to := func(p string) {
		n, fresh := b.node(p)
		if fresh {
			next = append(next, n)
		}
		if !seen[n] {
			seen[n] = true
			b.reads[id] = append(b.reads[id], n)
		}
	}
	for _, inc := range incs {
		name := inc[1:]
		switch inc[0] {
		case '=':
			b.macros[name] = true
			continue
		case '?':
			if name != traceMacro {
				b.asked[id] = append(b.asked[id], name)
			}
			continue
		case '"', '@':
			own := filepath.Dir(b.paths[id])
			if inc[0] == '@' {
				own = b.traceDir
			}
			if p, ok := b.files.file(own + "/" + name); ok {
				to(p)
				continue
			}
		}
		if filepath.IsAbs(name) {
			if p, ok := b.files.file(name); ok {
				to(p)
			}
			continue
		}
		targets, ok := b.known[inc]
		if !ok {
			where := &b.search
			if inc[0] == '<' {
				where = &b.angles
			}
			where.find(b.files, name, inc[0] == '*', func(p string) {
				n, fresh := b.node(p)
				if fresh {
					next = append(next, n)
				}
				targets = append(targets, n)
			})
			b.known[inc] = targets
		}
		for _, n := range targets {
			to(b.paths[n])
		}
	}
	return next
}

// reached marks all files that read any of the given ones, themselves included.
func (g *graph) reached(files []string) []bool {
	back := make([][]int32, len(g.paths))
	for from, tos := range g.reads {
		for _, to := range tos {
			back[to] = append(back[to], int32(from))
		}
	}
	reached := make([]bool, len(g.paths))
	var queue []int32
	mark := func(id int32) {
		if !reached[id] {
			reached[id] = true
			queue = append(queue, id)
		}
	}
	for _, f := range files {
		if id, ok := g.ids[f]; ok {
			mark(id)
		}
	}
	if len(queue) == 0 {
		return reached
	}
	for id := range g.unclear {
		mark(id)
	}
	for len(queue) > 0 {
		id := queue[0]
		queue = queue[1:]
		for _, from := range back[id] {
			mark(from)
		}
	}
	return reached
}

// readers gives the objects of units that read any of the files, sorted.
func (g *graph) readers(files []string) (objects []string) {
	reached := g.reached(files)
	for _, u := range g.units {
		if slices.ContainsFunc(u.start, func(id int32) bool { return reached[id] }) {
			objects = append(objects, u.object)
		}
	}
	slices.Sort(objects)
	return objects
}

// firstCommand splits the first command of the text at blanks. Quotes do not
// matter here: no folder's name needs them.
func firstCommand(text string) []string {
	first, _, _ := strings.Cut(text, ";")
	return strings.Fields(first)
}

// forKernel tells what is compiled for the kernel from the host's tools.
func forKernel(words []string) bool {
	src := words[len(words)-1]
	if !strings.HasSuffix(src, ".c") && !strings.HasSuffix(src, ".S") {
		return false
	}
	for _, w := range words {
		if w == "-D__KERNEL__" {
			return true
		}
	}
	return false
}

// scan gives what the files include, from memory if they have not changed.
func (k *inclusions) scan(ctx context.Context, paths []string, ids []int32) ([][]inclusion, error) {
	out := make([][]inclusion, len(ids))
	fresh := make([]*scanned, len(ids))
	g, ctx := errgroup.WithContext(ctx)
	const part = 64
	g.SetLimit(runtime.GOMAXPROCS(0))
	for at := 0; at < len(ids); at += part {
		g.Go(func() error {
			for i := at; i < min(at+part, len(ids)); i++ {
				if ctx.Err() != nil {
					return ctx.Err()
				}
				p := paths[ids[i]]
				st, err := os.Stat(p)
				if err != nil {
					return fmt.Errorf("following inclusions: %w", err)
				}
				s := &scanned{Size: st.Size(), Time: st.ModTime().UnixNano()}
				if old := k.Files[p]; old != nil && old.Size == s.Size && old.Time == s.Time {
					out[i] = old.Includes
					continue
				}
				text, err := os.ReadFile(p)
				if err != nil {
					return fmt.Errorf("following inclusions: %w", err)
				}
				s.Includes = scanIncludes(text)
				out[i], fresh[i] = s.Includes, s
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	for i, s := range fresh {
		if s != nil {
			k.Files[paths[ids[i]]] = s
			k.changed = true
		}
	}
	return out, nil
}
