// SPDX-License-Identifier: Apache-2.0

package kbuild

import (
	"bytes"
	"path"
	"strings"
)

// inclusion is what a file says it reads. The first byte tells how:
//
//	"name  by quotes: the file's own folder comes first
//	<name  by angle brackets
//	*name  in all folders, for #include_next
//	@name  from the tracing headers' folder, for a file that defines tracepoints
//	?NAME  by a macro
//	=NAME  no inclusion: the file defines the macro NAME as a file's name
type inclusion = string

var (
	includeWord = []byte("include")
	defineWord  = []byte("define")
)

// traceMacro is what the tracing headers include by. They read the header that
// defines the tracepoints again, under a name made of the macros
// TRACE_INCLUDE_PATH and TRACE_INCLUDE_FILE that it sets (include/trace/define_trace.h).
const traceMacro = "TRACE_INCLUDE"

// scanIncludes lists what a C or assembly file may include, whatever conditions
// it stands under: more than a compiler would read, never less. Comments are not
// recognised as such, so that what stands in them counts too.
func scanIncludes(text []byte) []inclusion {
	var out []inclusion
	var traceDirs, traceFiles []string
	for rest := text; ; {
		i := bytes.IndexByte(rest, '#')
		if i < 0 {
			break
		}
		before := rest[:i]
		rest = rest[i+1:]
		line := directive(rest)
		switch {
		case bytes.HasPrefix(line, includeWord):
			if inc := includedName(line[len(includeWord):]); inc != "" && startsLine(before) {
				out = append(out, inc)
			}
		case bytes.HasPrefix(line, defineWord):
			name, value := definedName(line[len(defineWord):])
			switch {
			case name == "":
			case name == "TRACE_INCLUDE_PATH":
				traceDirs = append(traceDirs, value)
			case name == "TRACE_INCLUDE_FILE", name == "TRACE_SYSTEM":
				traceFiles = append(traceFiles, value)
			default:
				if inc := includedName([]byte(value)); inc != "" && inc[0] != '?' && strings.Contains(path.Base(inc[1:]), ".") {
					out = append(out, inc, "="+name)
				}
			}
		}
	}
	if len(traceDirs) == 0 {
		traceDirs = []string{"trace/events"}
	}
	for _, d := range traceDirs {
		for _, f := range traceFiles {
			out = append(out, "@"+path.Join(d, f+".h"))
		}
	}
	return dedup(out)
}

// startsLine says whether nothing but blanks and comments stands between the
// line's beginning and its end.
func startsLine(before []byte) bool {
	line := bytes.TrimSpace(before[bytes.LastIndexByte(before, '\n')+1:])
	return len(line) == 0 || bytes.HasSuffix(line, []byte("*/"))
}

// directive is the text behind a '#', without leading blanks, up to the end of
// its line.
func directive(b []byte) []byte {
	b = skipBlanks(b)
	for end := 0; ; {
		i := bytes.IndexByte(b[end:], '\n')
		if i < 0 {
			return b
		}
		end += i
		if end == 0 || b[end-1] != '\\' {
			return b[:end]
		}
		end++
	}
}

// skipBlanks skips blanks, joined lines and comments.
func skipBlanks(b []byte) []byte {
	for len(b) > 0 {
		switch {
		case b[0] == ' ', b[0] == '\t', b[0] == '\r':
			b = b[1:]
		case bytes.HasPrefix(b, []byte("\\\n")):
			b = b[2:]
		case bytes.HasPrefix(b, []byte("/*")):
			i := bytes.Index(b, []byte("*/"))
			if i < 0 {
				return nil
			}
			b = b[i+2:]
		default:
			return b
		}
	}
	return b
}

func includedName(b []byte) inclusion {
	b, next := bytes.CutPrefix(b, []byte("_next"))
	b = skipBlanks(b)
	if len(b) == 0 {
		return ""
	}
	end := byte('"')
	switch {
	case b[0] == '<':
		end = '>'
	case b[0] == '"':
	case isIdentStart(b[0]):
		return "?" + string(ident(b))
	default:
		return ""
	}
	i := bytes.IndexByte(b[1:], end)
	if i <= 0 {
		return ""
	}
	if next {
		return "*" + string(b[1:1+i])
	}
	return string(b[:1+i])
}

// definedName takes "NAME value" apart; a macro with parameters has no name here.
func definedName(b []byte) (name, value string) {
	b = skipBlanks(b)
	n := ident(b)
	if len(n) == 0 {
		return "", ""
	}
	b = b[len(n):]
	if len(b) > 0 && b[0] == '(' {
		return "", ""
	}
	return string(n), string(bytes.TrimSpace(b))
}

func ident(b []byte) []byte {
	n := 0
	for n < len(b) && (isIdentStart(b[n]) || n > 0 && isDigit(b[n])) {
		n++
	}
	return b[:n]
}

func isIdentStart(c byte) bool {
	return c == '_' || c == '$' || c|0x20 >= 'a' && c|0x20 <= 'z'
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

func dedup(in []string) []string {
	seen := make(map[string]bool, len(in))
	out := in[:0]
	for _, s := range in {
		if !seen[s] {
			seen[s] = true
			out = append(out, s)
		}
	}
	return out
}
