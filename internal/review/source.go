// SPDX-License-Identifier: Apache-2.0

package review

import (
	"bytes"
	"strings"
)

// token is a word, a number, a text or a character of C source.
type token string

func (t token) word() bool {
	return t != "" && (t[0] == '_' || t[0] >= 'a' && t[0] <= 'z' || t[0] >= 'A' && t[0] <= 'Z' || t[0] >= 0x80)
}

// function is the body of a function or macro.
type function struct {
	file, name string
	static     bool
	macro      bool
	tokens     []token
}

// scanner takes a file apart. It does not preprocess: of what stands under
// conditions all branches are read, but braces are counted in the last alone.
type scanner struct {
	file  string
	out   []*function
	head  []token // since the last outermost ; or }
	body  []token
	depth int
	saved []int // depth at each #if that is open
	skip  int   // conditions open since an #if 0
}

// functions lists what a source file defines. It never fails: what it cannot
// make sense of is left out.
func functions(file string, src []byte) []*function {
	s := &scanner{file: file}
	src = bytes.ReplaceAll(bytes.ReplaceAll(src, []byte("\r\n"), []byte("\n")), []byte("\\\n"), []byte("  "))
	for line := range bytes.Lines(stripped(src)) {
		if text := bytes.TrimSpace(line); len(text) > 0 && text[0] == '#' {
			s.directive(string(text[1:]))
			continue
		}
		if s.skip > 0 {
			continue
		}
		if s.depth > 0 && line[0] == '}' {
			s.depth = 1 // the kernel's style: what ends in the first column is a whole
		}
		for _, t := range split(line) {
			s.token(t)
		}
	}
	return s.out
}

// directive follows conditions and takes macros for functions.
func (s *scanner) directive(text string) {
	text = strings.TrimSpace(text)
	word := text[:len(text)-len(strings.TrimLeft(text, "abcdefghijklmnopqrstuvwxyz"))]
	rest := strings.TrimSpace(text[len(word):])
	switch word {
	case "if", "ifdef", "ifndef":
		if s.skip > 0 || word == "if" && rest == "0" {
			s.skip++
			return
		}
		s.saved = append(s.saved, s.depth)
	case "else", "elif":
		if s.skip > 1 {
			return
		}
		if s.skip == 1 { // the other branch of #if 0
			s.skip = 0
			s.saved = append(s.saved, s.depth)
			return
		}
		if n := len(s.saved); n > 0 {
			s.depth = s.saved[n-1]
		}
	case "endif":
		if s.skip > 0 {
			s.skip--
		} else if n := len(s.saved); n > 0 {
			s.saved = s.saved[:n-1]
		}
	case "define":
		if t := split([]byte(rest)); s.skip == 0 && len(t) > 1 {
			s.out = append(s.out, &function{file: s.file, name: string(t[0]), static: true, macro: true, tokens: t[1:]})
		}
	}
}

func (s *scanner) token(t token) {
	switch t {
	case "{":
		s.depth++
		if s.depth == 1 {
			s.body = nil
			return
		}
	case "}":
		if s.depth == 0 {
			s.head = nil
			return
		}
		s.depth--
		if s.depth == 0 {
			if name := functionName(s.head); name != "" {
				static := false
				for _, h := range s.head {
					static = static || h == "static"
				}
				s.out = append(s.out, &function{file: s.file, name: name, static: static, tokens: s.body})
				s.head = nil
			} else {
				s.head = append(s.head, "{", "}") // a type or initial values; goes on to the ;
			}
			return
		}
	case ";":
		if s.depth == 0 {
			s.head = nil
			return
		}
	}
	if s.depth == 0 {
		s.head = append(s.head, t)
	} else {
		s.body = append(s.body, t)
	}
}

// attributes may stand with parentheses in the head of a function, besides its name.
var attributes = map[token]bool{
	"__attribute__": true, "__acquires": true, "__releases": true, "__must_hold": true, "__cond_acquires": true, "__printf": true,
	"__scanf": true, "__section": true, "__aligned": true, "__alloc_size": true, "__assume_aligned": true, "__no_sanitize": true,
	"__acquire": true, "__release": true, "__typeof__": true, "typeof": true, "__malloc": true, "__nonnull": true, "__bpf_kfunc": true,
}

// functionName finds the name in the head of a function; empty if it is of
// something else. What a macro in capitals defines is called MACRO(first argument).
func functionName(head []token) string {
	depth := 0
	for i, t := range head {
		switch t {
		case "(":
			if depth++; depth != 1 || i == 0 || !head[i-1].word() || attributes[head[i-1]] {
				continue
			}
			name := string(head[i-1])
			for _, h := range head[i:] {
				if h == "=" {
					return ""
				}
			}
			if name == strings.ToUpper(name) && i+1 < len(head) && head[i+1].word() {
				name += "(" + string(head[i+1]) + ")"
			}
			return name
		case ")":
			depth--
		case "=":
			return ""
		}
	}
	return ""
}

// stripped takes out comments and what stands in quotes, but keeps lines.
func stripped(src []byte) []byte {
	out := make([]byte, 0, len(src))
	for i := 0; i < len(src); {
		c := src[i]
		switch {
		case c == '/' && i+1 < len(src) && src[i+1] == '*':
			n := bytes.Index(src[i+2:], []byte("*/"))
			if n < 0 {
				return out
			}
			out = append(out, ' ')
			for range bytes.Count(src[i:i+2+n], []byte("\n")) {
				out = append(out, '\n')
			}
			i += n + 4
		case c == '/' && i+1 < len(src) && src[i+1] == '/':
			for i < len(src) && src[i] != '\n' {
				i++
			}
		case c == '"' || c == '\'':
			out = append(out, c)
			for i++; i < len(src) && src[i] != c && src[i] != '\n'; i++ {
				if src[i] == '\\' {
					i++
				}
			}
			if i < len(src) && src[i] == c {
				i++
			}
			out = append(out, c)
		default:
			out = append(out, c)
			i++
		}
	}
	return out
}

// split gives the tokens of a line without comments.
func split(line []byte) (out []token) {
	word := func(c byte) bool {
		return c == '_' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c >= 0x80
	}
	for i := 0; i < len(line); {
		c := line[i]
		switch {
		case c <= ' ':
			i++
		case word(c):
			end := i + 1
			for end < len(line) && word(line[end]) {
				end++
			}
			out = append(out, token(line[i:end]))
			i = end
		default:
			out = append(out, token(line[i:i+1]))
			i++
		}
	}
	return out
}

func sameText(a, b []token) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}
