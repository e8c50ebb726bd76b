// SPDX-License-Identifier: Apache-2.0

package patchgen

import "bytes"

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

// onlyLines reports that two functions differ in nothing but line numbers:
// instruction for instruction the same, apart from 32-bit immediates that are
// the number of an old line here and of the same line there. Such a
// difference is no change: __LINE__ moves with every line added above.
func (c *comparer) onlyLines(a, b *item) bool {
	if c.lines == nil || a.kind != function || b.kind != function {
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
		at, va, okA := in.imm32(ca)
		_, vb, okB := other.imm32(cb)
		if !okA || !okB || !bytes.Equal(ca[in.off:at], cb[in.off:at]) {
			return false
		}
		want, kept := c.lines.New(int(va))
		if !kept || want != int(vb) || va == 0 {
			return false
		}
	}
	return true
}
