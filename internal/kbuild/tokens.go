// SPDX-License-Identifier: Apache-2.0

package kbuild

import "bytes"

// tokenKind is what a token is, as far as it matters for telling texts apart.
type tokenKind byte

const (
	tokIdent tokenKind = iota
	tokNumber
	tokString // and characters
	tokPunct  // one character each
	tokHash   // the # that begins a directive
	tokEnd    // the end of a directive's line
)

type token struct {
	kind tokenKind
	// spaced says that blanks or a comment stand before it. Between the
	// arguments of # and in front of a macro's parameters that matters.
	spaced bool
	text   []byte
}

// lexer takes C or preprocessed text apart. Lines are to be joined before.
type lexer struct {
	src   []byte
	pos   int
	fresh bool // nothing but blanks so far on this line
	inDir bool
}

func newLexer(src []byte) *lexer { return &lexer{src: src, fresh: true} }

var joinedLine = []byte("\\\n")

// joinLines undoes continued lines (translation phase 2).
func joinLines(text []byte) []byte {
	if !bytes.Contains(text, joinedLine) {
		return text
	}
	return bytes.ReplaceAll(text, joinedLine, nil)
}

func (l *lexer) next() (t token, ok bool) {
	s := l.src
	for l.pos < len(s) {
		c := s[l.pos]
		switch {
		case c == '\n':
			l.fresh = true
			if l.inDir {
				l.inDir = false
				return token{kind: tokEnd}, true // the newline is read again as a blank
			}
			l.pos++
			t.spaced = true
		case c == ' ' || c == '\t' || c == '\r' || c == '\f' || c == '\v':
			l.pos++
			t.spaced = true
		case c == '/' && l.pos+1 < len(s) && s[l.pos+1] == '*':
			i := bytes.Index(s[l.pos+2:], []byte("*/"))
			if i < 0 {
				l.pos = len(s)
			} else {
				l.pos += i + 4
			}
			t.spaced = true
		case c == '/' && l.pos+1 < len(s) && s[l.pos+1] == '/':
			i := bytes.IndexByte(s[l.pos:], '\n')
			if i < 0 {
				l.pos = len(s)
			} else {
				l.pos += i
			}
			t.spaced = true
		default:
			return l.solid(t), true
		}
	}
	if l.inDir {
		l.inDir = false
		return token{kind: tokEnd}, true
	}
	return t, false
}

// solid reads the token that begins here.
func (l *lexer) solid(t token) token {
	s, at := l.src, l.pos
	c := s[at]
	end := at + 1
	switch {
	case c == '#' && l.fresh:
		t.kind = tokHash
		l.inDir = true
	case isIdentStart(c) || c >= 0x80:
		t.kind = tokIdent
		for end < len(s) && (isIdentStart(s[end]) || isDigit(s[end]) || s[end] >= 0x80) {
			end++
		}
	case isDigit(c) || c == '.' && end < len(s) && isDigit(s[end]):
		t.kind = tokNumber
		for end < len(s) {
			if d := s[end]; isIdentStart(d) || isDigit(d) || d == '.' || (d == '+' || d == '-') && bytes.IndexByte([]byte("eEpP"), s[end-1]) >= 0 {
				end++
				continue
			}
			break
		}
	case c == '"' || c == '\'':
		t.kind = tokString
		for end < len(s) && s[end] != c && s[end] != '\n' {
			if s[end] == '\\' {
				end++
			}
			end++
		}
		end = min(end+1, len(s))
		if s[end-1] == '\n' { // an apostrophe in skipped text, not a character
			end--
		}
	default:
		t.kind = tokPunct
	}
	l.fresh = false
	l.pos = end
	t.text = s[at:end]
	return t
}

// meaning is next without #line directives.
func (l *lexer) meaning() (token, bool) {
	t, ok := l.next()
	if !ok || t.kind != tokHash {
		return t, ok
	}
	ahead := *l
	if w, _ := ahead.next(); string(w.text) != "line" {
		return t, ok
	}
	for ok && t.kind != tokEnd {
		t, ok = l.next()
	}
	return l.meaning()
}

// sameTokens says whether two versions of a header mean the same to the
// preprocessor wherever they are read: they differ in comments, empty lines and
// the length of blanks only.
func sameTokens(a, b []byte) bool {
	la, lb := newLexer(joinLines(a)), newLexer(joinLines(b))
	for {
		x, okx := la.meaning()
		y, oky := lb.meaning()
		if okx != oky {
			return false
		}
		if !okx {
			return true
		}
		if x.kind != y.kind || x.kind != tokEnd && x.kind != tokHash && x.spaced != y.spaced || !bytes.Equal(x.text, y.text) {
			return false
		}
	}
}
