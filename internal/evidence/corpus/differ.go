// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/term"

	"github.com/lupatch/lupatch/internal/evidence/objpair"
	"github.com/lupatch/lupatch/internal/evidence/record"
	"github.com/lupatch/lupatch/internal/kbuild"
)

// differ compares what lupatch's differ and kpatch's make of the same objects,
// and how long they take: first all objects are made, then both programs run on
// them in turns, with nothing else under way.
func differ(ctx context.Context, o options, fixes []*fix) error {
	tree, err := kbuild.Open(ctx, kbuild.Options{Release: o.release})
	if err != nil {
		return err
	}
	root, err := objpair.Root(tree.Release, tree.Version)
	if err != nil {
		return err
	}
	all := make([]*objpair.Fix, len(fixes))
	for i, f := range fixes {
		progressed("objects", i, len(fixes))
		if all[i], err = pairsOf(ctx, o, root, f); err != nil {
			return fmt.Errorf("%s: %w", f.name, err)
		}
	}
	progressed("objects", len(fixes), len(fixes))
	state, err := record.TreeHash(ctx)
	if err != nil {
		return err
	}
	t, err := openDuels(o, state)
	if err != nil {
		return err
	}
	r, err := newRacer(o, filepath.Join(tree.Obj, "Module.symvers"))
	if err != nil {
		return err
	}
	defer os.RemoveAll(r.dir)
	for i, f := range fixes {
		progressed("pairs", i, len(fixes))
		for n, x := range all[i].Pairs {
			if t.has(f.name, x.Source) {
				continue
			}
			d, err := r.duel(ctx, f.name, all[i], n)
			if err != nil {
				return fmt.Errorf("%s: %w", f.name, err)
			}
			if err := t.put(d); err != nil {
				return err
			}
		}
	}
	progressed("pairs", len(fixes), len(fixes))
	return t.finish(o, fixes, all)
}

// racer runs both programs.
type racer struct {
	lupatch, kpatch string
	symvers, dir    string
	byHand          map[[2]string]string
}

func newRacer(o options, symvers string) (r *racer, err error) {
	r = &racer{lupatch: o.diffone, kpatch: o.kpatch, symvers: symvers}
	if r.byHand, err = readExplained(o.explained); err != nil {
		return nil, err
	}
	r.dir, err = os.MkdirTemp("", "lupatch-differ-")
	return r, err
}

// duelRounds is how often each program is timed for each pair; the median
// counts.
const duelRounds = 9

// duel lets both programs run on one pair. Who goes first alternates, as the
// second finds the files in the processor's caches.
func (r *racer) duel(ctx context.Context, fix string, p *objpair.Fix, n int) (*duel, error) {
	x := p.Pairs[n]
	before, after := filepath.Join(p.Dir, x.Old), filepath.Join(p.Dir, x.New)
	symtab := filepath.Join(r.dir, "symtab")
	if err := writeSymtab(ctx, before, symtab); err != nil {
		return nil, fmt.Errorf("reading the symbols of %s: %w", x.Source, err)
	}
	runs := [2]func() side{
		func() side { return r.ours(ctx, p.Dir, n) },
		func() side { return r.theirs(ctx, x.Unit, before, after, symtab) },
	}
	// One round that does not count brings programs and objects into memory.
	d := &duel{fix: fix, source: x.Source, ours: runs[0](), theirs: runs[1]()}
	var took, cpu [2][]time.Duration
	for i := range duelRounds {
		for j := range runs {
			who := (i + j) % len(runs)
			s := runs[who]()
			took[who], cpu[who] = append(took[who], s.took), append(cpu[who], s.cpu)
		}
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	d.ours.took, d.theirs.took = middle(took[0]), middle(took[1])
	d.ours.cpu, d.theirs.cpu = middle(cpu[0]), middle(cpu[1])
	return d, d.explain(ctx, before, after, r.byHand)
}

// middle is the median.
func middle(list []time.Duration) time.Duration {
	slices.Sort(list)
	return list[len(list)/2]
}

// progressed shows how far a run is: in one line of a terminal, elsewhere in a
// line now and then.
func progressed(what string, done, of int) {
	const every = 50
	switch {
	case term.IsTerminal(int(os.Stderr.Fd())):
		end := ""
		if done == of {
			end = "\n"
		}
		fmt.Fprintf(os.Stderr, "\r%s: %d of %d fixes%s", what, done, of, end)
	case done%every == 0 || done == of:
		fmt.Fprintf(os.Stderr, "%s: %d of %d fixes\n", what, done, of)
	}
}
