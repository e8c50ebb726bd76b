// SPDX-License-Identifier: Apache-2.0

package build

import (
	"bytes"
	"fmt"

	"github.com/bluekeyes/go-gitdiff/gitdiff"
	"github.com/lupatch/lupatch/internal/refuse"
	"github.com/lupatch/lupatch/patchgen"
)

// relocateHunks moves each hunk to the place where its old lines stand.
func (c *change) relocateHunks(name string, f *gitdiff.File, old []byte) (*patchgen.LineMap, error) {
	lines := bytes.SplitAfter(old, []byte("\n"))
	lm := &patchgen.LineMap{}
	floor, shift := 0, 0
	for i, frag := range f.TextFragments {
		at, fuzz := place(frag, lines, floor, c.fuzz)
		switch where := fmt.Sprintf("%s:%d", name, frag.OldPosition); {
		case frag.OldLines == 0:
			return nil, refuse.New(refuse.PatchDoesNotApply, where,
				"hunk %d of %d has no lines of context, so that its place cannot be checked", i+1, len(f.TextFragments))
		case at < 0:
			return nil, refuse.New(refuse.PatchDoesNotApply, where,
				"hunk %d of %d: the lines it expects are not in the source", i+1, len(f.TextFragments))
		case fuzz > 0:
			c.inexact = append(c.inexact, fmt.Sprintf("%s:%d: hunk %d fits only without %d outer lines of its context; see that it is where it belongs", name, at+1, i+1, fuzz))
		}
		frag.OldPosition = int64(at + 1)
		frag.NewPosition = int64(at + 1 + shift)
		floor = at + int(frag.OldLines)
		lm.Hunks = append(lm.Hunks, hunks(frag)...)
		shift += int(frag.NewLines - frag.OldLines)
	}
	return lm, nil
}

// DefaultFuzz is that of patch(1).
const DefaultFuzz = 2

// place finds where a hunk's old lines stand (an index into lines, or -1): the
// place nearest to the stated line where all of them do; or else, with fuzz,
// the only one where they do without so many of the outer lines of context,
// which are then taken off the hunk. patch(1) takes the nearest of several
// there too; with the context not fitting that is a guess.
func place(frag *gitdiff.TextFragment, lines [][]byte, floor, fuzz int) (at, used int) {
	want := oldLines(frag)
	if len(want) == 0 {
		return -1, 0
	}
	start := int(frag.OldPosition) - 1
	if at := nearest(lines, want, start, floor); at >= 0 {
		return at, 0
	}
	outer := max(frag.LeadingContext, frag.TrailingContext)
	for used := 1; used <= fuzz; used++ {
		// The longer side loses lines first: a short one is a file's border.
		lead := max(0, int(frag.LeadingContext-outer)+used)
		trail := max(0, int(frag.TrailingContext-outer)+used)
		if lead > int(frag.LeadingContext) || trail > int(frag.TrailingContext) || lead+trail >= len(want) {
			return -1, 0
		}
		inner := want[lead : len(want)-trail]
		first := nearest(lines, inner, start+lead, floor)
		if first < 0 {
			continue
		}
		for p := floor; p+len(inner) <= len(lines); p++ {
			if p != first && fits(lines, inner, p) {
				return -1, 0
			}
		}
		frag.Lines = frag.Lines[lead : len(frag.Lines)-trail]
		frag.OldLines -= int64(lead + trail)
		frag.NewLines -= int64(lead + trail)
		frag.LeadingContext -= int64(lead)
		frag.TrailingContext -= int64(trail)
		return first, used
	}
	return -1, 0
}

func oldLines(frag *gitdiff.TextFragment) (out [][]byte) {
	for _, l := range frag.Lines {
		if l.Op != gitdiff.OpAdd {
			out = append(out, []byte(l.Line))
		}
	}
	return out
}

func fits(lines, want [][]byte, p int) bool {
	if p < 0 || p+len(want) > len(lines) {
		return false
	}
	for i := range want {
		if !bytes.Equal(lines[p+i], want[i]) {
			return false
		}
	}
	return true
}

func nearest(lines, want [][]byte, at, floor int) int {
	at = max(0, min(at, len(lines)))
	for d := 0; d <= len(lines); d++ {
		if p := at - d; p >= floor && fits(lines, want, p) {
			return p
		}
		if p := at + d; p >= floor && fits(lines, want, p) {
			return p
		}
	}
	return -1
}

// hunks gives the stretches of a fragment that really change.
func hunks(frag *gitdiff.TextFragment) (out []patchgen.LineHunk) {
	o, n := int(frag.OldPosition), int(frag.NewPosition)
	var h *patchgen.LineHunk
	for _, l := range frag.Lines {
		if l.Op == gitdiff.OpContext {
			h = nil
			o, n = o+1, n+1
			continue
		}
		if h == nil {
			out = append(out, patchgen.LineHunk{OldStart: o, NewStart: n})
			h = &out[len(out)-1]
		}
		if l.Op == gitdiff.OpDelete {
			h.OldLines, o = h.OldLines+1, o+1
		} else {
			h.NewLines, n = h.NewLines+1, n+1
		}
	}
	return out
}
