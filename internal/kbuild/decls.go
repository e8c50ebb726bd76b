// SPDX-License-Identifier: Apache-2.0

package kbuild

import (
	"bytes"
	"slices"
)

// declaration is one of a file's outermost parts in its preprocessed text.
type declaration struct {
	// text is the tokens with one blank between each two.
	text string
	// gives are the names by which others use the part, if it alone leads to no
	// code: a prototype, a static inline function, a structure or enumeration.
	// Empty for all else.
	gives []string
	// names are the identifiers in it, and strings whole: an alias names a
	// function by a string, assembly by a word in one.
	names [][]byte
}

// declarations takes preprocessed text (-P) apart.
func declarations(text []byte) []declaration {
	var out []declaration
	var cur []token
	depth, dir, function := 0, false, false
	end := func() {
		if len(cur) > 0 {
			out = append(out, declare(cur))
		}
		cur, function = cur[:0], false
	}
	l := newLexer(text)
	for {
		t, ok := l.next()
		if !ok {
			break
		}
		switch {
		case t.kind == tokHash:
			if depth == 0 {
				end()
			}
			dir = true
		case t.kind == tokEnd:
			dir = false
			if depth == 0 {
				end()
			}
			continue
		case dir || t.kind != tokPunct:
		default:
			switch t.text[0] {
			case '{':
				if depth == 0 && len(cur) > 0 && cur[len(cur)-1].is(')') {
					function = true
				}
				depth++
			case '(', '[':
				depth++
			case ')', ']':
				depth--
			case '}':
				depth--
				if depth == 0 && function {
					cur = append(cur, t)
					end()
					continue
				}
			case ';':
				if depth == 0 {
					cur = append(cur, t)
					end()
					continue
				}
			}
		}
		cur = append(cur, t)
	}
	end()
	return out
}

func (t token) is(c byte) bool { return t.kind == tokPunct && t.text[0] == c }

func declare(toks []token) declaration {
	var d declaration
	n := 0
	for _, t := range toks {
		n += len(t.text) + 1
		if t.kind == tokIdent || t.kind == tokString {
			d.names = append(d.names, t.text)
		}
	}
	b := make([]byte, 0, n)
	for _, t := range toks {
		b = append(append(b, t.text...), ' ')
	}
	d.text = string(b)
	d.gives = given(toks)
	return d
}

// notNames stand in front of a parenthesis without being a function's name.
var notNames = map[string]bool{
	"__attribute__": true, "__attribute": true, "asm": true, "__asm__": true, "__asm": true, "typeof": true, "__typeof__": true, "__typeof": true,
	"_Static_assert": true, "_Alignas": true, "__extension__": true, "_Pragma": true,
}

// notIdle in a declaration make code or data of it whether it is used or not.
var notIdle = map[string]bool{
	"used": true, "__used__": true, "constructor": true, "__constructor__": true, "destructor": true, "__destructor__": true,
	"section": true, "__section__": true, "alias": true, "__alias__": true, "weak": true, "__weak__": true, "ifunc": true, "typedef": true,
	"externally_visible": true, "__externally_visible__": true, "struct_init": true, "retain": true, "__retain__": true,
}

// given lists a declaration's names if nothing but a use of them turns it into
// code.
func given(toks []token) []string {
	if names := givenTypes(toks); names != nil {
		return names
	}
	if name := idleFunction(toks); name != "" {
		return []string{name}
	}
	return nil
}

// givenTypes lists the tags and constants of "struct tag { … };" and its like; a
// declaration that also has variables or a typedef gives none.
func givenTypes(toks []token) (names []string) {
	if !typeWords[string(toks[0].text)] || !toks[len(toks)-1].is(';') || len(toks) < 3 {
		return nil
	}
	depth, closed, enum := 0, false, 0
	for i, t := range toks {
		switch {
		case t.is('{') || t.is('(') || t.is('['):
			depth++
			if t.is('{') && isEnum(toks[:i]) {
				enum = depth
			}
		case t.is('}') || t.is(')') || t.is(']'):
			if enum == depth {
				enum = 0
			}
			depth--
			closed = closed || depth == 0 && t.is('}')
		case t.kind != tokIdent:
		case i > 0 && typeWords[string(toks[i-1].text)], enum > 0 && enum == depth && (toks[i-1].is('{') || toks[i-1].is(',')):
			names = append(names, string(t.text))
		case depth == 0 && i > 0 && !notNames[string(t.text)]:
			return nil // a variable, or the result of a function
		}
		if depth == 0 && i > 0 && (t.is('*') || t.is('=') || t.is(',')) {
			return nil
		}
	}
	if !closed && len(toks) != 3 { // neither defined nor "struct tag;"
		return nil
	}
	if len(names) == 0 {
		return nil
	}
	return names
}

var typeWords = map[string]bool{"struct": true, "union": true, "enum": true}

// isEnum says whether "enum" or "enum tag" is what stands last.
func isEnum(before []token) bool {
	for i := len(before) - 1; i >= max(0, len(before)-2); i-- {
		if before[i].kind == tokIdent && string(before[i].text) == "enum" {
			return true
		}
	}
	return false
}

// idleFunction gives the name of a prototype or of a static inline function.
func idleFunction(toks []token) (name string) {
	last := toks[len(toks)-1]
	body := last.is('}')
	if toks[0].kind != tokIdent || !body && !last.is(';') {
		return ""
	}
	static, inline := false, false
	depth := 0
	for i, t := range toks {
		switch {
		case t.is('{'):
			if body && depth == 0 && static && inline {
				return name
			}
			return ""
		case t.is('('):
			if depth == 0 && name == "" && i > 0 && toks[i-1].kind == tokIdent && !notNames[string(toks[i-1].text)] {
				name = string(toks[i-1].text)
			}
			depth++
		case t.is(')'):
			depth--
		case depth == 0 && (t.is('=') || t.is(',')):
			return ""
		case t.kind == tokIdent:
			switch w := string(t.text); {
			case notIdle[w], w == "asm" || w == "__asm__" || w == "__asm":
				return ""
			case w == "static":
				static = true
			case w == "inline" || w == "__inline" || w == "__inline__":
				inline = true
			}
		}
	}
	return name
}

// differs says whether two preprocessed texts may compile to different code.
// They do not if they differ only in prototypes, types and static inline functions
// that nothing in the file uses: the compiler drops those before it makes code.
func differs(old, new []byte) (text, code bool) {
	if bytes.Equal(old, new) {
		return false, false
	}
	a, b := declarations(old), declarations(new)
	p := 0
	for p < len(a) && p < len(b) && a[p].text == b[p].text {
		p++
	}
	s := 0
	for s < len(a)-p && s < len(b)-p && a[len(a)-1-s].text == b[len(b)-1-s].text {
		s++
	}
	ma, mb := a[p:len(a)-s], b[p:len(b)-s]
	if len(ma) == 0 && len(mb) == 0 {
		return false, false
	}
	changed := surplus(ma, mb)
	changed = append(changed, surplus(mb, ma)...)
	if len(changed) == 0 { // another order
		changed = append(slices.Clone(ma), mb...)
	}
	names := map[string]bool{}
	for _, d := range changed {
		if len(d.gives) == 0 {
			return true, true
		}
		for _, n := range d.gives {
			names[n] = true
		}
	}
	return true, used(a, names) || used(b, names)
}

// surplus lists what a has and b has not.
func surplus(a, b []declaration) []declaration {
	have := map[string]int{}
	for _, d := range b {
		have[d.text]++
	}
	var out []declaration
	for _, d := range a {
		if have[d.text]--; have[d.text] < 0 {
			out = append(out, d)
		}
	}
	return out
}

// used says whether any of the names stands in a declaration that makes code, or
// in one that gives a name which is itself used.
func used(all []declaration, names map[string]bool) bool {
	users := map[string][]int{}
	for i, d := range all {
		for _, n := range d.names {
			if n[0] != '"' && n[0] != '\'' {
				users[string(n)] = append(users[string(n)], i)
			} else if len(d.gives) == 0 && mentionsAny(n, names) {
				return true
			}
		}
	}
	var queue []string
	for n := range names {
		queue = append(queue, n)
	}
	seen := map[string]bool{}
	for len(queue) > 0 {
		n := queue[0]
		queue = queue[1:]
		if seen[n] {
			continue
		}
		seen[n] = true
		for _, i := range users[n] {
			if len(all[i].gives) == 0 {
				return true
			}
			queue = append(queue, all[i].gives...)
		}
	}
	return false
}

// mentionsAny looks for the names as words of a string.
func mentionsAny(s []byte, names map[string]bool) bool {
	for i := 0; i < len(s); {
		if !isIdentStart(s[i]) {
			i++
			continue
		}
		w := ident(s[i:])
		if names[string(w)] {
			return true
		}
		i += len(w)
	}
	return false
}
