// SPDX-License-Identifier: Apache-2.0

package patchgen_test

import (
	"math/rand/v2"
	"testing"

	"github.com/lupatch/lupatch/patchgen"
)

// randomMap makes a patch of a file of so many lines; it says how many are then.
func randomMap(r *rand.Rand, lines int) (*patchgen.LineMap, int) {
	m := &patchgen.LineMap{}
	shift := 0
	for at := 1 + r.IntN(4); at <= lines+1; at += 2 + r.IntN(5) {
		h := patchgen.LineHunk{OldStart: at, OldLines: min(r.IntN(3), lines+1-at), NewStart: at + shift, NewLines: r.IntN(3)}
		if h.OldLines+h.NewLines == 0 {
			continue
		}
		m.Hunks = append(m.Hunks, h)
		shift += h.NewLines - h.OldLines
		at += h.OldLines
	}
	return m, lines + shift
}

// A line goes through two patches as through both at once.
func TestLineMapThen(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	kept, gone := 0, 0
	for range 2000 {
		lines := r.IntN(40)
		first, between := randomMap(r, lines)
		second, _ := randomMap(r, between)
		both := first.Then(second, lines)
		for old := 1; old <= lines+1; old++ {
			want, ok := first.New(old)
			if ok {
				want, ok = second.New(want)
			}
			got, gotOK := both.New(old)
			if ok != gotOK || ok && got != want {
				t.Fatalf("line %d goes to %d (%v), want %d (%v)\n%+v\n%+v\n%+v", old, got, gotOK, want, ok, first, second, both)
			}
			if ok {
				kept++
			} else {
				gone++
			}
		}
		for _, h := range both.Hunks {
			if h.OldLines < 0 || h.NewLines < 0 || h.OldLines+h.NewLines == 0 {
				t.Fatalf("%+v", both)
			}
		}
	}
	if kept < 1000 || gone < 1000 {
		t.Errorf("%d lines kept and %d gone: this shows nothing", kept, gone)
	}
}
