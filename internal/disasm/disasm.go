// SPDX-License-Identifier: Apache-2.0

// Package disasm shows the code of functions before and after an update side
// by side: the shipped code out of the distribution's binary, the new code
// out of the update.
package disasm

import (
	"fmt"
	"regexp"
	"strings"

	"golang.org/x/arch/x86/x86asm"

	"github.com/lupatch/lupatch/internal/elfobj"
)

// Line is one row: the same instruction on both sides, or one that only one
// side has.
type Line struct {
	Old  string `json:"old,omitempty"`
	New  string `json:"new,omitempty"`
	Same bool   `json:"same"`
}

// Function is one function of an update.
type Function struct {
	Unit  string `json:"unit"`
	Name  string `json:"name"`
	Lines []Line `json:"lines"`
}

// code is machine code with what is known of the addresses in it.
type code struct {
	bytes []byte
	// addr is where it lies; 0 if it is not linked.
	addr uint64
	// notes say, by offset, what a relocated field refers to.
	notes map[uint64]string
	// names finds the symbol at an address; nil if there are none.
	names func(addr uint64) (string, uint64)
}

// line is one instruction. Two lines with the same key do the same, wherever
// the code lies.
type line struct{ text, key string }

// text disassembles in the syntax of the GNU tools. A byte that cannot be
// decoded is shown as such.
func (c code) text() []line {
	var out []line
	for off := uint64(0); off < uint64(len(c.bytes)); {
		inst, err := x86asm.Decode(c.bytes[off:], 64)
		n := uint64(inst.Len)
		if err != nil || inst.Op == 0 || n == 0 {
			s := fmt.Sprintf(".byte 0x%02x", c.bytes[off])
			out = append(out, line{s, s})
			off++
			continue
		}
		out = append(out, c.line(inst, off))
		off += n
	}
	return out
}

// linkedText matches what an absolute address in a linked kernel looks like.
var linkedText = regexp.MustCompile(`\$-0x[0-7][0-9a-f]{7}\b`)

func (c code) line(inst x86asm.Inst, off uint64) line {
	s := x86asm.GNUSyntax(inst, c.addr+off, c.names)
	op, _, _ := strings.Cut(s, " ")
	note := ""
	for at := off; at < off+uint64(inst.Len); at++ {
		if n, ok := c.notes[at]; ok {
			note = n
		}
	}
	rel, branch := inst.Args[0].(x86asm.Rel)
	switch {
	case branch && note != "":
		s = op + " " + note
	case branch:
		if to := int64(off) + int64(inst.Len) + int64(rel); to >= 0 && to < int64(len(c.bytes)) {
			return line{fmt.Sprintf("%s .%+#x", op, to), op + " ."}
		}
	case note != "" && strings.HasPrefix(note, "\""):
		return line{s + "  # " + note, strings.Replace(s, "$0x0", "$address", 1)}
	case note != "" && strings.Contains(s, "(%rip)"):
		s = strings.Replace(s, "(%rip)", note, 1)
	case note != "" && strings.Contains(s, "$0x0"):
		s = strings.Replace(s, "$0x0", "$"+note, 1)
	case note != "":
		s += "  # " + note
	case linkedText.MatchString(s):
		return line{s, linkedText.ReplaceAllString(s, "$$address")}
	}
	return line{s, s}
}

// fromSection takes a stretch of a section of f. Relocations that the
// livepatch core is to apply stand apart from the others.
func fromSection(f *elfobj.File, s *elfobj.Section, off, size uint64) code {
	c := code{bytes: s.Data[off : off+size], notes: map[uint64]string{}}
	for _, r := range s.RelocsIn(off, off+size) {
		c.note(r, off)
	}
	for _, klp := range f.Sections {
		if klp.Target != s {
			continue
		}
		for _, r := range klp.Relocs {
			if r.Off >= off && r.Off < off+size {
				c.note(r, off)
			}
		}
	}
	return c
}

func (c code) note(r elfobj.Reloc, base uint64) {
	name := r.Sym.Name
	if name == "" && r.Sym.Section != nil {
		name = r.Sym.Section.Name
	}
	addend := r.Addend
	if elfobj.PCRelative(r.Type) {
		addend += int64(elfobj.Width(r.Type))
	}
	if r.Sym.Section != nil && r.Sym.Section.Strings() {
		if str, ok := r.Sym.Section.CString(r.Sym.Value + uint64(addend)); ok {
			c.notes[r.Off-base] = fmt.Sprintf("%q", str)
			return
		}
	}
	// The update names what it takes from the kernel .klp.sym.OBJECT.NAME,POS.
	if rest, ok := strings.CutPrefix(name, ".klp.sym."); ok {
		_, name, _ = strings.Cut(rest, ".")
		name, _, _ = strings.Cut(name, ",")
	}
	if addend != 0 {
		name += fmt.Sprintf("%+d", addend)
	}
	c.notes[r.Off-base] = name
}

// align pairs two listings: the longest common sequence of lines stands on
// both sides.
func align(a, b []line) []Line {
	// Functions have at most some thousand instructions, so the plain table
	// of lengths is affordable.
	n := make([][]int32, len(a)+1)
	for i := range n {
		n[i] = make([]int32, len(b)+1)
	}
	for i := len(a) - 1; i >= 0; i-- {
		for j := len(b) - 1; j >= 0; j-- {
			if a[i].key == b[j].key {
				n[i][j] = n[i+1][j+1] + 1
			} else {
				n[i][j] = max(n[i+1][j], n[i][j+1])
			}
		}
	}
	var out []Line
	i, j := 0, 0
	for i < len(a) || j < len(b) {
		switch {
		case i < len(a) && j < len(b) && a[i].key == b[j].key:
			out = append(out, Line{Old: a[i].text, New: b[j].text, Same: true})
			i, j = i+1, j+1
		case j == len(b) || i < len(a) && n[i+1][j] >= n[i][j+1]:
			out = append(out, Line{Old: a[i].text})
			i++
		default:
			out = append(out, Line{New: b[j].text})
			j++
		}
	}
	return out
}
