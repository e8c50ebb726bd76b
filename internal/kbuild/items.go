// SPDX-License-Identifier: Apache-2.0

package kbuild

import (
	"slices"
	"strings"
)

// item is one of a header's outermost parts before preprocessing: a directive,
// or a declaration with the directives that stand in it.
type item struct {
	toks []token
	// macro is the name that a #define defines.
	macro string
	// tests is the name that a directive only asks for or takes back (#ifdef,
	// #ifndef, #undef).
	tests string
	// gives are names without whose use the part leads to no code; empty if
	// that cannot be told.
	gives []string
	text  string
}

// items takes a header apart; nil if its braces do not match in the text as it
// stands, as they need not under conditions.
func items(text []byte) []item {
	var out []item
	var cur, dir []token
	depth, function, inDir := 0, false, false
	end := func() {
		if len(cur) > 0 {
			out = append(out, item{toks: cur, text: spelled(cur), gives: rawGiven(cur)})
		}
		cur, function = nil, false
	}
	l := newLexer(joinLines(text))
	for {
		t, ok := l.meaning()
		if !ok {
			break
		}
		switch {
		case t.kind == tokHash:
			inDir = true
			if depth == 0 {
				end()
			}
			dir = []token{t}
			continue
		case t.kind == tokEnd:
			inDir = false
			if depth == 0 {
				out = append(out, directiveItem(dir))
			} else {
				cur = append(cur, dir...)
			}
			continue
		case inDir:
			dir = append(dir, t)
			continue
		}
		cur = append(cur, t)
		switch {
		case t.is('{') || t.is('(') || t.is('['):
			if depth == 0 && t.is('{') && len(cur) > 1 && cur[len(cur)-2].is(')') {
				function = true
			}
			depth++
		case t.is('}') || t.is(')') || t.is(']'):
			if depth--; depth < 0 {
				return nil
			}
			if depth == 0 && function && t.is('}') {
				end()
			}
		case t.is(';') && depth == 0:
			end()
		}
	}
	if depth != 0 {
		return nil
	}
	end()
	if out == nil {
		out = []item{}
	}
	return out
}

// spelled is the tokens' text, with a blank where there are blanks.
func spelled(toks []token) string {
	var b strings.Builder
	for i, t := range toks {
		if t.spaced && i > 0 {
			b.WriteByte(' ')
		}
		b.Write(t.text)
	}
	return b.String()
}

func directiveItem(dir []token) item {
	it := item{toks: dir, text: spelled(dir)}
	if len(dir) < 3 || dir[2].kind != tokIdent {
		return it
	}
	switch string(dir[1].text) {
	case "define":
		it.macro = string(dir[2].text)
	case "ifdef", "ifndef", "undef":
		it.tests = string(dir[2].text)
	}
	return it
}

// plainWords stand in declarations and are known to make nothing of them that
// is there without being used. Any other word may be a macro that does.
var plainWords = wordSet(`static inline __inline __inline__ __always_inline extern const volatile void char short int long unsigned
	signed bool float double struct union enum u8 u16 u32 u64 s8 s16 s32 s64 __u8 __u16 __u32 __u64 __s8 __s16 __s32 __s64
	__be16 __be32 __be64 __le16 __le32 __le64 __sum16 __wsum uint ulong notrace __must_check __maybe_unused __pure __cold
	__attribute_const__ __malloc __user __rcu __iomem __percpu noinline`)

func wordSet(s string) map[string]bool {
	m := map[string]bool{}
	for w := range strings.FieldsSeq(s) {
		m[w] = true
	}
	return m
}

// rawGiven is given for text that is not preprocessed yet, in which a word may be
// a macro: less is taken for idle.
func rawGiven(toks []token) []string {
	if names := givenTypes(toks); names != nil {
		// Enumerations and tagged groups that macros make have names which
		// do not stand here.
		for i, t := range toks {
			if t.kind == tokIdent && (strings.HasSuffix(string(t.text), "_tagged") || i > 0 && i+1 < len(toks) && toks[i+1].is('(') && slices.ContainsFunc(toks, token.isEnumWord)) {
				return nil
			}
		}
		return names
	}
	name := idleFunction(toks)
	if name == "" {
		return nil
	}
	depth, groups := 0, 0
	for i, t := range toks {
		switch {
		case t.is('{'):
			return []string{name}
		case t.is('('):
			if depth++; depth == 1 {
				groups++
			}
		case t.is(')'):
			depth--
		case depth == 0 && t.kind == tokIdent:
			w := string(t.text)
			tag := i > 0 && typeWords[string(toks[i-1].text)]
			if w != name && !plainWords[w] && !tag && !strings.HasSuffix(w, "_t") {
				return nil
			}
		case depth == 0 && t.kind != tokPunct:
			return nil
		}
		if groups > 1 {
			return nil
		}
	}
	return []string{name}
}

func (t token) isEnumWord() bool { return t.kind == tokIdent && string(t.text) == "enum" }

// changedItems compares two versions of a header. Only if all that differs is
// macros and parts that give names, ok is true: then names are theirs, and fresh
// those that one version does not define at all.
func changedItems(old, new []byte) (names, fresh map[string]bool, ok bool) {
	a, b := items(old), items(new)
	if a == nil || b == nil {
		return nil, nil, false
	}
	da, ra := lacking(a, b)
	db, rb := lacking(b, a)
	if !slices.Equal(ra, rb) {
		return nil, nil, false // something has changed its place
	}
	names, fresh = map[string]bool{}, map[string]bool{}
	count := map[string]int{}
	for side, items := range [][]item{da, db} {
		for _, it := range items {
			switch {
			case it.macro != "":
				names[it.macro] = true
				count[it.macro] += 1 - 2*side
				fresh[it.macro] = count[it.macro] != 0
			case len(it.gives) > 0:
				for _, n := range it.gives {
					names[n] = true
				}
			default:
				return nil, nil, false
			}
		}
	}
	return names, fresh, len(names) > 0
}

// lacking gives the items of a that b has not, and the texts of the others.
func lacking(a, b []item) (out []item, rest []string) {
	have := map[string]int{}
	for _, it := range b {
		have[it.text]++
	}
	for _, it := range a {
		if have[it.text]--; have[it.text] < 0 {
			out = append(out, it)
		} else {
			rest = append(rest, it.text)
		}
	}
	return out, rest
}
