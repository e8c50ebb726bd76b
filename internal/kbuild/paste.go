// SPDX-License-Identifier: Apache-2.0

package kbuild

import (
	"slices"
	"strings"
)

// paste is a way in which the preprocessor may glue names together (##): fixed
// pieces in their order, and anything where a macro's parameter stands.
type paste struct {
	// pieces are the fixed ones; "" stands for anything.
	pieces []string
	// glued are the positions of the parameters.
	glued []int
}

// makes says whether the name may come out of pieces in their order.
func (p paste) makes(name string) bool {
	rest, any := name, false
	for i, s := range p.pieces {
		switch {
		case s == "":
			any = true
		case any && i == len(p.pieces)-1:
			return strings.HasSuffix(rest, s)
		case any:
			at := strings.Index(rest, s)
			if at < 0 {
				return false
			}
			rest, any = rest[at+len(s):], false
		default:
			if !strings.HasPrefix(rest, s) {
				return false
			}
			rest = rest[len(s):]
		}
	}
	return any || rest == ""
}

// macroBody is a #define taken apart.
type macroBody struct {
	name string
	// params are the parameters with their positions.
	params map[string]int
	body   []token
}

// defineOf reads the directive's tokens; nil if it is no #define.
func defineOf(dir []token) *macroBody {
	if len(dir) < 3 || string(dir[1].text) != "define" || dir[2].kind != tokIdent {
		return nil
	}
	m := &macroBody{name: string(dir[2].text), params: map[string]int{}, body: dir[3:]}
	if len(m.body) == 0 || !m.body[0].is('(') || m.body[0].spaced {
		return m
	}
	n := 0
	for i, t := range m.body {
		switch {
		case t.is(')'):
			m.params["__VA_ARGS__"] = n
			m.body = m.body[i+1:]
			return m
		case t.is(','):
			n++
		case t.kind == tokIdent:
			m.params[string(t.text)] = n
		}
	}
	m.body = nil
	return m
}

// param gives the position of the parameter that the word is, if it is one.
func (m *macroBody) param(t token) (pos int, ok bool) {
	if m == nil {
		return 0, false
	}
	pos, ok = m.params[string(t.text)]
	return pos, ok
}

// pastes lists the chains of ## in the body.
func (m *macroBody) pastes() (out []paste) {
	b := m.body
	hashes := func(i int) bool { return i+1 < len(b) && b[i].is('#') && b[i+1].is('#') }
	for i := 0; i < len(b); i++ {
		if !hashes(i + 1) {
			continue
		}
		var p paste
		for {
			s := ""
			switch t := b[i]; t.kind {
			case tokIdent, tokNumber:
				if pos, ok := m.param(t); ok {
					p.glued = append(p.glued, pos)
				} else {
					s = string(t.text)
				}
			default:
				s = " " // no part of a name
			}
			p.pieces = append(p.pieces, s)
			if !hashes(i+1) || i+3 >= len(b) {
				break
			}
			i += 3
		}
		out = append(out, p)
	}
	return out
}

// common gives what is in both.
func common(a, b []int) []int {
	out := []int{}
	for _, x := range a {
		if slices.Contains(b, x) && !slices.Contains(out, x) {
			out = append(out, x)
		}
	}
	return out
}

// arguments splits those of the call of the macro that stands at a place.
func arguments(toks []token, at int) (args [][]token, end int, ok bool) {
	if at+1 >= len(toks) || !toks[at+1].is('(') {
		return nil, 0, false
	}
	depth, from := 0, at+2
	for i := at + 1; i < len(toks); i++ {
		switch t := toks[i]; {
		case t.is('('):
			depth++
		case t.is(')'):
			if depth--; depth == 0 {
				return append(args, toks[from:i]), i + 1, true
			}
		case t.is(',') && depth == 1:
			args = append(args, toks[from:i])
			from = i + 1
		}
	}
	return nil, 0, false
}
