// SPDX-License-Identifier: Apache-2.0

package kbuild

import (
	"context"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/lupatch/lupatch/internal/refuse"
)

// Dependents lists the sources that the configuration builds and that read the
// header (or a .c file that others include): those in its own folder and below.
// Refusal: HeaderScope for a header of the whole kernel (include/, arch/…/include)
// and for one that files elsewhere read.
func (t *Tree) Dependents(ctx context.Context, header string) ([]string, error) {
	header = path.Clean(header)
	if t.Kind != KindModule && (strings.HasPrefix(header, "include/") || strings.HasPrefix(header, "arch/") && strings.Contains(header, "/include/") || !strings.Contains(header, "/")) {
		return nil, refuse.New(refuse.HeaderScope, header, "it is a header of the whole kernel, not of one driver or folder")
	}
	dir := path.Dir(header)
	if t.Kind == KindModule {
		dir = "."
	}
	others, err := t.outsiders(ctx, header, dir)
	if err != nil {
		return nil, err
	}
	if len(others) > 0 {
		return nil, refuse.New(refuse.HeaderScope, header, "files outside of its folder read it too: %s", strings.Join(others[:min(len(others), 3)], ", "))
	}
	l, err := t.list(ctx, dir)
	if err != nil {
		return nil, err
	}
	var sources []string
	for src := range l.Sources {
		if dir == "." || strings.HasPrefix(src, dir+"/") {
			sources = append(sources, src)
		}
	}
	slices.Sort(sources)
	reads := make([]bool, len(sources))
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(t.opt.Jobs)
	want := filepath.Join(t.Src, header)
	for i, src := range sources {
		g.Go(func() error {
			tu, err := t.tuOf(gctx, l, dir, l.Sources[src])
			if err != nil {
				return err
			}
			deps, err := t.dependencies(gctx, tu)
			if err != nil {
				return err
			}
			reads[i] = slices.ContainsFunc(deps, func(d string) bool {
				if path.Base(d) != path.Base(header) {
					return false
				}
				real, err := filepath.EvalSymlinks(d)
				return err == nil && real == want
			})
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	var out []string
	for i, src := range sources {
		if reads[i] {
			out = append(out, src)
		}
	}
	if len(out) == 0 {
		return nil, refuse.New(refuse.HeaderScope, header, "no file that the configuration of %s builds in %s reads it", t.name(), dir)
	}
	return out, nil
}

// dependencies lists the files that the unaltered unit is made of. -M costs a
// tenth of a compilation.
func (t *Tree) dependencies(ctx context.Context, tu *TU) ([]string, error) {
	inv := t.invoke(tu, nil, nil)
	out, log, err := inv.run(ctx, "-M", "-MG", inv.src)
	if err != nil {
		return nil, inv.failed(ctx, log, err)
	}
	deps := parseDeps(out)
	for i, d := range deps {
		if !filepath.IsAbs(d) {
			deps[i] = filepath.Join(tu.Obj, d)
		}
	}
	return deps, nil
}
