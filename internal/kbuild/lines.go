// SPDX-License-Identifier: Apache-2.0

package kbuild

import (
	"bytes"
	"fmt"
)

// Move is a place behind a change: the line New of the new version was the line
// Old of the old one. Lines count from 1.
type Move struct{ New, Old int }

// KeepLineNumbers puts #line directives into the new version of a header, so
// that __LINE__ behind a change is what it was. A directive comes where the next
// outermost declaration begins; without one before the next change, there is
// none. Text that cannot be taken apart is given back as it is.
func KeepLineNumbers(text []byte, moves []Move) []byte {
	places := outermostLines(text)
	if places == nil {
		return text
	}
	insert := map[int]int{}
	shift := 0
	for i, m := range moves {
		next := 1 << 30
		if i+1 < len(moves) {
			next = moves[i+1].New
		}
		for _, l := range places {
			if l >= m.New && l < next {
				if m.Old-m.New != shift {
					shift = m.Old - m.New
					insert[l] = l + shift
				}
				break
			}
		}
	}
	if len(insert) == 0 {
		return text
	}
	var out bytes.Buffer
	n := 0
	for line := range bytes.Lines(text) {
		n++
		if old, ok := insert[n]; ok {
			fmt.Fprintf(&out, "#line %d\n", old)
		}
		out.Write(line)
	}
	return out.Bytes()
}

// outermostLines lists the lines that begin with the first token of a
// declaration or directive that is not part of another; nil if braces do not
// match, as they may not under conditions.
func outermostLines(text []byte) (out []int) {
	// Continued lines keep their length, so that places can be told.
	src := bytes.ReplaceAll(text, joinedLine, []byte{' ', ' '})
	l := newLexer(src)
	depth, dir, between := 0, false, true
	line, counted := 1, 0
	for {
		t, ok := l.next()
		if !ok {
			break
		}
		if t.kind == tokEnd {
			dir = false
			continue
		}
		at := l.pos - len(t.text)
		line += bytes.Count(text[counted:at], []byte{'\n'})
		counted = at
		begins := len(bytes.TrimSpace(text[bytes.LastIndexByte(text[:at], '\n')+1:at])) == 0
		if depth == 0 && between && begins && !dir {
			out = append(out, line)
		}
		if t.kind == tokHash {
			dir = true
			continue
		}
		if dir {
			continue
		}
		between = false
		if t.kind == tokPunct {
			switch t.text[0] {
			case '{', '(', '[':
				depth++
			case '}', ')', ']':
				if depth--; depth < 0 {
					return nil
				}
				between = depth == 0 && t.text[0] == '}'
			case ';':
				between = depth == 0
			}
		}
	}
	if depth != 0 {
		return nil
	}
	return out
}
