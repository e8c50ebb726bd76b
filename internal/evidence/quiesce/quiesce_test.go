// SPDX-License-Identifier: Apache-2.0

package main

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/lupatch/lupatch/internal/lab/labtest"
)

func TestMain(m *testing.M) {
	if inGuest() {
		return
	}
	os.Exit(m.Run())
}

func TestWaited(t *testing.T) {
	const log = `[1.0] livepatch: klp_try_switch_task: x:1 is sleeping on function before
[1.1] livepatch: 'fix': starting patching transition
[1.2] livepatch: klp_try_switch_task: a b:11 is sleeping on function lubusy_first
[1.2] livepatch: klp_try_switch_task: c:12 is running
[1.2] livepatch: klp_try_switch_task: d:13 is sleeping on function lubusy_first
[1.3] else
[2.2] livepatch: klp_try_switch_task: a b:11 is sleeping on function lubusy_first
[2.2] livepatch: klp_try_switch_task: c:12 is sleeping on function lubusy_second
[3.2] livepatch: 'fix': completing patching transition
[4.2] livepatch: klp_try_switch_task: x:14 is sleeping on function after
`
	all, first, err := waited(log, "fix")
	if err != nil {
		t.Fatal(err)
	}
	if got := slices.Sorted(maps.Keys(all)); !slices.Equal(got, []int{11, 12, 13}) {
		t.Errorf("at any look: %v", got)
	}
	if got := slices.Sorted(maps.Keys(first)); !slices.Equal(got, []int{11, 13}) {
		t.Errorf("at the first: %v", got)
	}
	if _, _, err := waited(log, "other"); err == nil {
		t.Error("a log of something else was taken")
	}
	if _, _, err := waited(log[:len(log)/2], "fix"); err == nil {
		t.Error("half a log was taken")
	}
}

// A table is continued, and trials of another tree are made again.
func TestTable(t *testing.T) {
	path := filepath.Join(t.TempDir(), "t.tsv")
	for round, want := range [][]int{{1, 2, 3}, {2, 3}} {
		tab, err := openTable(path, "abc", options{})
		if err != nil {
			t.Fatal(err)
		}
		if got := tab.missing(3); !slices.Equal(got, want) {
			t.Errorf("round %d: %v are missing, want %v", round, got, want)
		}
		if err := tab.put(&trial{number: 1, predicted: map[int]bool{1: true, 2: true}, waited: map[int]bool{2: true, 3: true, 4: true, 5: true}, first: map[int]bool{}}); err != nil {
			t.Fatal(err)
		}
		if p, r := tab.all().rates(); p != 0.5 || r != 0.25 {
			t.Errorf("precision %v, recall %v", p, r)
		}
	}
	tab, err := openTable(path, "other", options{})
	if err != nil || len(tab.missing(1)) != 1 {
		t.Errorf("%+v, %v", tab, err)
	}
}

// TestTrials makes one.
func TestTrials(t *testing.T) {
	t.Parallel()
	labtest.SkipIfShort(t)
	o := options{lupatch: labtest.Lupatch(t), release: labtest.Release, trials: 1, tasks: 60, seed: 7, longest: 8 * time.Second}
	b, err := makeBench(labtest.Context(t), o)
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(b.dir)
	tab, err := openTable(filepath.Join(t.TempDir(), "t.tsv"), "test", o)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.trials(labtest.Context(t), o, tab.missing(o.trials), tab.put); err != nil {
		t.Fatal(err)
	}
	t.Logf("\n%s", tab.all().summary())
	// On a busy machine the way from the pass to the load is long, and some come
	// and go on it; `make evidence-quiesce` has the figures.
	if p, r := tab.all().rates(); p < 0.6 || r < 0.6 {
		t.Errorf("precision %v, recall %v", p, r)
	}
	for _, n := range tab.all().column("waited") {
		if n < 5 {
			t.Errorf("a transition waited for %v tasks: that shows nothing", n)
		}
	}
}
