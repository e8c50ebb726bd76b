// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/rogpeppe/go-internal/diff"

	"github.com/lupatch/lupatch/internal/kbuild"
)

// explain prints what the oracle sees of fixes: the functions that differ, as
// the text it compares.
func explain(ctx context.Context, w io.Writer, release string, fixes []*fix) error {
	tree, err := kbuild.Open(ctx, kbuild.Options{Release: release})
	if err != nil {
		return err
	}
	p, err := newPlain(ctx, tree, 0)
	if err != nil {
		return err
	}
	for _, f := range fixes {
		before, after, err := p.objects(ctx, f, f.sources())
		if err != nil {
			return fmt.Errorf("%s: %w", f.name, err)
		}
		fmt.Fprintf(w, "== %s\n", f.name)
		for _, s := range f.sources() {
			old, err := disassemble(ctx, before[s])
			if err != nil {
				return err
			}
			new, err := disassemble(ctx, after[s])
			if err != nil {
				return err
			}
			for _, name := range slices.Sorted(maps.Keys(new)) {
				var was []string
				if o := old[name]; o != nil {
					was = o.lines
				}
				w.Write(diff.Diff(s+":"+name, []byte(strings.Join(was, "\n")+"\n"), s+":"+name, []byte(strings.Join(new[name].lines, "\n")+"\n")))
			}
		}
	}
	return nil
}
