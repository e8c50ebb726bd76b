// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/jedib0t/go-pretty/v6/progress"
	"golang.org/x/sync/errgroup"
	"golang.org/x/term"

	"github.com/lupatch/lupatch/internal/kbuild"
	"github.com/lupatch/lupatch/internal/manifest"
	"github.com/lupatch/lupatch/internal/refuse"
)

// measure works through the fixes: some builds at a time, and beside them one
// host that loads what is built.
func measure(ctx context.Context, o options, t *table, todo []*fix) error {
	if len(todo) == 0 {
		return nil
	}
	tree, err := kbuild.Open(ctx, kbuild.Options{Release: o.release})
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "lupatch-corpus-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	m := &meter{total: len(todo)}
	defer m.start()()

	fixes := make(chan *fix)
	updates := make(chan *built, len(todo))
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		defer close(fixes)
		for _, f := range todo {
			select {
			case fixes <- f:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		return nil
	})
	var builders sync.WaitGroup
	for i := range o.workers {
		builders.Add(1)
		g.Go(func() error {
			defer builders.Done()
			p, err := newPlain(ctx, tree, i)
			if err != nil {
				return err
			}
			for f := range fixes {
				r, b, err := measureOne(ctx, o, p, f, dir)
				if err != nil {
					return fmt.Errorf("%s: %w", f.name, err)
				}
				if err := t.put(r); err != nil {
					return err
				}
				if b != nil && !o.noLoad {
					updates <- b
				} else {
					m.done(r)
				}
			}
			return nil
		})
	}
	g.Go(func() error {
		builders.Wait()
		close(updates)
		return nil
	})
	if !o.noLoad {
		g.Go(func() error { return loadAll(ctx, o, t, m, updates) })
	}
	return g.Wait()
}

// measureOne compiles and builds a fix; the update is nil if there is none.
func measureOne(ctx context.Context, o options, p *plain, f *fix, dir string) (*row, *built, error) {
	r := &row{fix: f.name, area: f.area, class: f.class}
	before, after, err := p.objects(ctx, f, f.sources())
	var nc *notCompiled
	if errors.As(err, &nc) {
		r.outcome, r.reason, r.detail = outcomeNotCompiled, nc.reason, nc.detail
		return r, nil, nil
	}
	if err != nil {
		return nil, nil, err
	}
	b, err := buildOne(ctx, o, f, dir, r)
	if err != nil {
		return r, nil, err
	}
	if b == nil {
		// That nothing changed is for the oracle to confirm.
		if r.reason == string(refuse.NothingChanged) {
			v, err := ask(ctx, f.sources(), before, after, &manifest.Manifest{})
			if err != nil {
				return nil, nil, err
			}
			r.oracle = v.String()
		}
		// A file may read a header that the fix changes, and not go with it.
		where, _, _ := strings.Cut(r.detail, ":")
		if r.reason == string(refuse.CompileFailed) && strings.HasSuffix(where, ".c") && !slices.Contains(f.sources(), where) {
			_, _, err = p.objects(ctx, f, append(f.sources(), where))
			if errors.As(err, &nc) {
				*r = row{fix: f.name, area: f.area, class: f.class, outcome: outcomeNotCompiled, reason: nc.reason, detail: nc.detail}
				err = nil
			}
		}
		if r.reason == string(refuse.DataChanged) {
			b, err = withWord(ctx, o, f, dir, r, where)
		}
		return r, b, err
	}
	// Files that only read a changed header count too.
	sources := f.sources()
	for _, u := range b.man.Units {
		for _, fn := range u.Functions {
			if !slices.Contains(sources, fn.File) {
				sources = append(sources, fn.File)
			}
		}
	}
	if len(sources) > len(before) {
		if before, after, err = p.objects(ctx, f, sources); err != nil {
			return nil, nil, err
		}
	}
	v, err := ask(ctx, sources, before, after, b.man)
	if err != nil {
		return nil, nil, err
	}
	if len(v.extra) > 0 {
		if before, after, err = p.objects(ctx, f, sources, sectionFlags...); err != nil {
			return nil, nil, err
		}
		other, err := ask(ctx, sources, before, after, b.man)
		if err != nil {
			return nil, nil, err
		}
		v.explainExtra(other)
	}
	r.oracle = v.String()
	return r, b, nil
}

// loadAll boots a host for each handful of updates.
func loadAll(ctx context.Context, o options, t *table, m *meter, updates <-chan *built) error {
	for open := true; open; {
		var batch []*built
		for len(batch) < perBoot {
			b, ok := <-updates
			if !ok {
				open = false
				break
			}
			batch = append(batch, b)
		}
		if len(batch) == 0 {
			continue
		}
		err := load(ctx, o, batch)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		for _, b := range batch {
			if err := t.put(b.row); err != nil {
				return err
			}
			m.done(b.row)
			os.Remove(b.path)
		}
		if err != nil {
			// Those behind the one that took the host down stay "built"; the
			// next run loads them.
			fmt.Fprintln(os.Stderr, "corpus: lab host:", err)
		}
	}
	return nil
}

// meter shows how far the run is.
type meter struct {
	total   int
	mu      sync.Mutex
	n       int
	counts  map[string]int
	tracker *progress.Tracker
	pw      progress.Writer
}

// start shows a bar on a terminal and plain lines elsewhere; the function
// returned ends it.
func (m *meter) start() func() {
	m.counts = map[string]int{}
	if !term.IsTerminal(int(os.Stderr.Fd())) {
		return func() {}
	}
	m.pw = progress.NewWriter()
	m.pw.SetOutputWriter(os.Stderr)
	m.tracker = &progress.Tracker{Message: "fixes", Total: int64(m.total)}
	m.pw.AppendTracker(m.tracker)
	go m.pw.Render()
	return func() {
		m.pw.Stop()
		for m.pw.IsRenderInProgress() {
			time.Sleep(10 * time.Millisecond)
		}
	}
}

func (m *meter) done(r *row) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.n++
	m.counts[r.outcome]++
	var parts []string
	for _, k := range []string{outcomeLoaded, outcomeBuilt, outcomeRefused, outcomeFailed, outcomeNotCompiled} {
		if m.counts[k] > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", m.counts[k], k))
		}
	}
	if m.tracker != nil {
		m.tracker.Increment(1)
		m.tracker.UpdateMessage(strings.Join(parts, ", "))
		return
	}
	fmt.Fprintf(os.Stderr, "%d/%d %s: %s %s\n", m.n, m.total, r.fix, r.outcome, r.reason)
}
