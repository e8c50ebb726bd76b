// SPDX-License-Identifier: Apache-2.0

package kbuild

import "strings"

// piece is a part of what the preprocessor glues together (##).
type piece struct {
	kind pieceKind
	// text is the word, for pieceWord.
	text string
	// param is the position of a macro's parameter, for pieceParam.
	param int
}

type pieceKind byte

const (
	pieceAny   pieceKind = iota // not known
	pieceWord                   // a word, which may itself be a macro
	pieceExact                  // a word that is not looked at as a macro
	pieceParam                  // whatever the macro is given
)

// pattern is what comes out when pieces are glued, in their order.
type pattern []piece

// key tells patterns apart.
func (p pattern) key() string {
	var b strings.Builder
	for _, x := range p {
		b.WriteByte('0' + byte(x.kind))
		b.WriteByte('a' + byte(min(x.param, 20)))
		b.WriteString(x.text)
		b.WriteByte(' ')
	}
	return b.String()
}

// fits says whether the name may come out; stands are the other words that a
// word may stand for.
func (p pattern) fits(name string, stands map[string][]string) bool {
	if len(p) == 0 {
		return name == ""
	}
	switch x := p[0]; x.kind {
	case pieceAny, pieceParam:
		for i := 0; i <= len(name); i++ {
			if p[1:].fits(name[i:], stands) {
				return true
			}
		}
		return false
	case pieceExact:
		rest, ok := strings.CutPrefix(name, x.text)
		return ok && p[1:].fits(rest, stands)
	default:
		for w := range standsFor(x.text, stands) {
			if rest, ok := strings.CutPrefix(name, w); ok && p[1:].fits(rest, stands) {
				return true
			}
		}
		return false
	}
}

// standsFor gives the word and all that it may stand for.
func standsFor(word string, stands map[string][]string) map[string]bool {
	all := map[string]bool{word: true}
	for queue := []string{word}; len(queue) > 0; queue = queue[1:] {
		for _, w := range stands[queue[0]] {
			if !all[w] {
				all[w] = true
				queue = append(queue, w)
			}
		}
	}
	return all
}

// macroBody is a #define taken apart.
type macroBody struct {
	name string
	// params are the parameters with their positions; rest is the one that
	// takes all further arguments, or -1.
	params map[string]int
	rest   int
	body   []token
}

// defineOf reads the directive's tokens; nil if it is no #define.
func defineOf(dir []token) *macroBody {
	if len(dir) < 3 || string(dir[1].text) != "define" || dir[2].kind != tokIdent {
		return nil
	}
	m := &macroBody{name: string(dir[2].text), params: map[string]int{}, rest: -1, body: dir[3:]}
	if len(m.body) == 0 || !m.body[0].is('(') || m.body[0].spaced {
		return m
	}
	n := 0
	for i, t := range m.body {
		switch {
		case t.is(')'):
			m.body = m.body[i+1:]
			return m
		case t.is(','):
			n++
		case t.is('.'):
			m.rest = n
			m.params["__VA_ARGS__"] = n
		case t.kind == tokIdent:
			m.params[string(t.text)] = n
		}
	}
	m.body = nil
	return m
}

// piece reads a word of the body, or of the text if m is nil. One next to ##
// is taken as it stands, exact.
func (m *macroBody) piece(t token, exact bool) piece {
	if m != nil {
		if pos, ok := m.params[string(t.text)]; ok {
			if pos == m.rest {
				return piece{} // several words, with commas between them
			}
			return piece{kind: pieceParam, param: pos}
		}
	}
	if exact {
		return piece{kind: pieceExact, text: string(t.text)}
	}
	if t.kind == tokIdent && counters[string(t.text)] {
		return piece{}
	}
	return piece{kind: pieceWord, text: string(t.text)}
}

// counters are macros that the compiler gives a number each time.
var counters = map[string]bool{"__COUNTER__": true, "__LINE__": true, "__INCLUDE_LEVEL__": true}

// chains lists what the body glues.
func (m *macroBody) chains() (out []pattern) {
	b := m.body
	for i := 0; i < len(b); i++ {
		if !hashes(b, i+1) {
			continue
		}
		var p pattern
		name := true
		for {
			if t := b[i]; t.kind == tokIdent || t.kind == tokNumber {
				p = append(p, m.piece(t, true))
			} else {
				name = false // a comma, a string: no part of a name
			}
			if !hashes(b, i+1) || i+3 >= len(b) {
				break
			}
			i += 3
		}
		if name {
			out = append(out, p)
		}
	}
	return out
}

func hashes(b []token, i int) bool { return i+1 < len(b) && b[i].is('#') && b[i+1].is('#') }

// arguments splits those of the macro that stands at a place.
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
