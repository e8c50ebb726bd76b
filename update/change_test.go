// SPDX-License-Identifier: Apache-2.0

package update

import (
	"context"
	"errors"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lupatch/lupatch/internal/journal"
)

// script makes a change of steps a, b and c that note what they do; do and undo
// of the steps named fail.
func script(fails ...string) (*Change, *[]string) {
	var log []string
	c := &Change{ID: "x", Kind: "apply"}
	act := func(what string) func(context.Context) error {
		return func(ctx context.Context) error {
			log = append(log, what)
			for _, f := range fails {
				if f == what {
					return errors.New(what + " failed")
				}
			}
			return ctx.Err()
		}
	}
	for _, n := range []string{"a", "b", "c"} {
		c.Steps = append(c.Steps, Step{Name: n, Update: "u", Do: act(n), Undo: act("-" + n)})
	}
	return c, &log
}

func TestChange(t *testing.T) {
	for name, c := range map[string]struct {
		fails  []string
		final  int // 1-based
		cancel bool
		log    []string
		last   journal.State
		stuck  string
	}{
		"all":        {log: []string{"a", "b", "c"}, last: journal.Committed},
		"last fails": {fails: []string{"c"}, log: []string{"a", "b", "c", "-b", "-a"}, last: journal.Aborted},
		"stuck":      {fails: []string{"c", "-b"}, log: []string{"a", "b", "c", "-b"}, last: journal.Stuck, stuck: "b"},
		"cancelled":  {cancel: true, log: nil, last: journal.Aborted},
		"behind the final step nothing is undone": {fails: []string{"c"}, final: 2, log: []string{"a", "b", "c"}, last: journal.Failed},
	} {
		t.Run(name, func(t *testing.T) {
			ch, log := script(c.fails...)
			if c.final > 0 {
				ch.Steps[c.final-1].Final = true
			}
			path := filepath.Join(t.TempDir(), "journal")
			j, err := journal.Open(path)
			if err != nil {
				t.Fatal(err)
			}
			defer j.Close()
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			if c.cancel {
				cancel()
			}
			err = ch.run(ctx, j, func(Event) {})
			if (err == nil) != (c.last == journal.Committed) {
				t.Fatal(err)
			}
			var ue *UndoError
			if errors.As(err, &ue) != (c.stuck != "") || ue != nil && ue.Step != c.stuck {
				t.Fatal(err)
			}
			if d := cmp.Diff(c.log, *log); d != "" {
				t.Fatal(d)
			}
			list, err := journal.Read(path)
			if err != nil || list[len(list)-1].State != c.last {
				t.Fatal(list, err)
			}
		})
	}
}

// A journal that cannot be written stops a change before its next step, and what
// was done is undone.
func TestJournalFails(t *testing.T) {
	ch, log := script()
	j, err := journal.Open(filepath.Join(t.TempDir(), "journal"))
	if err != nil {
		t.Fatal(err)
	}
	b := ch.Steps[1].Do
	ch.Steps[1].Do = func(ctx context.Context) error {
		j.Close()
		return b(ctx)
	}
	if err := ch.run(t.Context(), j, func(Event) {}); err == nil {
		t.Fatal("no error")
	}
	if d := cmp.Diff([]string{"a", "b", "-b", "-a"}, *log); d != "" {
		t.Fatal(d)
	}
}
