// SPDX-License-Identifier: Apache-2.0

package patchgen

import (
	"bytes"
	"strings"
)

// LineMap tells where the lines of the old source stand in the new one.
type LineMap struct {
	// Hunks are the changed stretches in order; lines count from 1.
	Hunks []LineHunk
}

// LineHunk is one stretch of lines that a patch exchanges.
type LineHunk struct {
	OldStart, OldLines int
	NewStart, NewLines int
}

// New gives the new number of an old line; ok is false for a line that the
// patch takes away.
func (m *LineMap) New(old int) (line int, ok bool) {
	shift := 0
	for _, h := range m.Hunks {
		if old < h.OldStart {
			break
		}
		if old < h.OldStart+h.OldLines {
			return 0, false
		}
		shift = h.NewStart + h.NewLines - h.OldStart - h.OldLines
	}
	return old + shift, true
}

// Then gives the map of two patches, one on top of the other, for a file that has
// so many lines before the first.
func (m *LineMap) Then(next *LineMap, lines int) *LineMap {
	out := &LineMap{}
	was, is := 0, 0 // the last line that is in both
	hunk := func(from, to int) {
		if from > was+1 || to > is+1 {
			out.Hunks = append(out.Hunks, LineHunk{OldStart: was + 1, OldLines: from - was - 1, NewStart: is + 1, NewLines: to - is - 1})
		}
		was, is = from, to
	}
	for old := 1; old <= lines; old++ {
		if between, ok := m.New(old); ok {
			if new, ok := next.New(between); ok {
				hunk(old, new)
			}
		}
	}
	between, _ := m.New(lines + 1)
	end, _ := next.New(between)
	hunk(lines+1, end)
	return out
}

// touches reports whether the patch changes lines from through to, or adds
// some between them.
func (m *LineMap) touches(from, to int) bool {
	for _, h := range m.Hunks {
		if h.OldStart <= to && h.OldStart+h.OldLines > from && (h.OldLines > 0 || h.OldStart > from) {
			return true
		}
	}
	return false
}

// extent gives the first and last source line of a function of the old
// version, as DWARF has it; ok is false if it is not known.
type extent func(function string) (from, to int, ok bool)

// onlyLines reports that two functions differ in nothing but line numbers:
// instruction for instruction the same, apart from constants that are the
// number of a line of this function in the old source here, and of the same
// line in the new one there. Such a difference is no change: __LINE__ moves
// with every line added above. A function whose own lines the patch touches
// never counts as unchanged.
func (c *comparer) onlyLines(a, b *item) bool {
	if c.lines == nil || c.extent == nil || a.kind != function || b.kind != function {
		return false
	}
	from, to, known := c.extent(strings.TrimSuffix(a.name, clone.FindString(a.name)))
	if !known || c.lines.touches(from, to) {
		return false
	}
	a.insnAt(a.off)
	b.insnAt(b.off)
	if len(a.insns) == 0 || len(a.insns) != len(b.insns) || a.insns[len(a.insns)-1].end < a.size {
		return false
	}
	ca, cb := blank(a), blank(b)
	for i, in := range a.insns {
		other := b.insns[i]
		if in.off != other.off || in.end != other.end {
			return false
		}
		x, y := ca[in.off:in.end], cb[in.off:in.end]
		if bytes.Equal(x, y) {
			continue
		}
		at, va, okA := in.lineNumber(ca)
		_, vb, okB := other.lineNumber(cb)
		if !okA || !okB || !bytes.Equal(ca[in.off:at], cb[in.off:at]) {
			return false
		}
		want, kept := c.lines.New(int(va))
		if !kept || want != int(vb) || int(va) < from || int(va) > to {
			return false
		}
	}
	return true
}
