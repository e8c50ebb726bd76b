// SPDX-License-Identifier: Apache-2.0

package kbuild

import (
	"bytes"
	"errors"
	"slices"
	"strings"
)

// glue is how ## may make one of some names in the files that a set of units
// reads.
type glue struct {
	files *fileTexts
	names []string
	// made lists by file what is glued there: words that are sure to be in it.
	made map[int32][][]string
	// open are macros of which the arguments decide whether one of the names
	// comes out, directly or through other macros, with the positions of
	// arguments that are sure to be part of it.
	open map[string][]int
	// stands are words that arguments have and that are macros somewhere, with
	// the words that they may stand for.
	stands map[string][]string
	// wild are files that use an open macro in a way that is not understood.
	wild map[int32]bool
}

// maxOpen bounds the open macros. In Linux 6.1 a dozen glue nothing but their
// parameters and some hundred have a fixed piece as short as "_".
const maxOpen = 1500

var errManyOpen = errors.New("too many macros glue what they are given")

// findGlue looks through the files: for ##, and for the uses of open macros.
func findGlue(files *fileTexts, names []string) (*glue, error) {
	g := &glue{files: files, names: names, made: map[int32][][]string{}, open: map[string][]int{}, wild: map[int32]bool{}, stands: map[string][]string{}}
	res, err := search(files, func(text []byte) *map[string][]int {
		if !bytes.Contains(text, []byte("##")) {
			return nil
		}
		open := map[string][]int{}
		dirs, _ := directives(text)
		for _, d := range dirs {
			m := defineOf(d)
			if m == nil {
				continue
			}
			for _, p := range m.pastes() {
				if slices.ContainsFunc(names, p.makes) {
					add(open, m.name, p.glued)
				}
			}
		}
		return &open
	})
	if err != nil {
		return nil, err
	}
	for _, open := range res {
		for n, glued := range *open {
			add(g.open, n, glued)
		}
	}
	for {
		again, err := g.followUses()
		if err != nil || !again {
			return g, err
		}
		if len(g.open) > maxOpen {
			return nil, errManyOpen
		}
	}
}

// add notes an open macro and says whether that is news.
func add(open map[string][]int, name string, glued []int) bool {
	old, ok := open[name]
	if !ok {
		open[name] = glued
		return true
	}
	open[name] = common(old, glued)
	return len(open[name]) != len(old)
}

// use is what the uses of open macros in a file come to.
type use struct {
	made [][]string
	open map[string][]int
	wild bool
}

// followUses finds where the open macros are used. A macro that passes on
// nothing but its own parameters is open, too. It says whether more has come to
// light, so that it has to be done again.
func (g *glue) followUses() (again bool, err error) {
	words := wordSearch(keys(g.open))
	res, err := search(g.files, func(text []byte) *use {
		if !words.in(text) {
			return nil
		}
		u := &use{open: map[string][]int{}}
		dirs, rest := directives(text)
		for _, d := range dirs {
			if m := defineOf(d); m != nil {
				g.note(u, m.body, m)
			} else if len(d) > 2 && !asks[string(d[1].text)] {
				g.note(u, d[2:], nil)
			}
		}
		g.note(u, rest, nil)
		return u
	})
	if err != nil {
		return false, err
	}
	if again {
		return true, nil
	}
	for id, u := range res {
		g.made[id] = append(g.made[id], u.made...)
		if u.wild {
			g.wild[id] = true
		}
		for _, pieces := range u.made {
			for _, n := range pieces {
				g.stands[n] = nil
			}
		}
	}
	return false, g.whatStands()
}

// whatStands looks for words of arguments that are macros. In most files none
// is; where one is a single word, that one may be glued instead; what reads a
// file that makes it anything else is given up on. Macros with parameters do not
// matter: without a parenthesis behind it their name is not one.
func (g *glue) whatStands() error {
	news := keys(g.stands)
	for len(news) > 0 {
		set := map[string]bool{}
		for _, n := range news {
			set[n] = true
		}
		type found struct {
			words map[string][]string
			wild  bool
		}
		res, err := search(g.files, func(text []byte) *found {
			if !definesAny(text, set) {
				return nil
			}
			f := &found{words: map[string][]string{}}
			dirs, _ := directives(text)
			for _, d := range dirs {
				m := defineOf(d)
				if m == nil || !set[m.name] || len(d) > 3 && d[3].is('(') && !d[3].spaced {
					continue
				}
				switch {
				case len(m.body) == 1 && (m.body[0].kind == tokIdent || m.body[0].kind == tokNumber):
					f.words[m.name] = append(f.words[m.name], string(m.body[0].text))
				default:
					f.wild = true
				}
			}
			return f
		})
		if err != nil {
			return err
		}
		news = nil
		for id, f := range res {
			if f.wild {
				g.wild[id] = true
			}
			for n, words := range f.words {
				for _, w := range words {
					if w == n {
						continue
					}
					g.stands[n] = append(g.stands[n], w)
					if _, ok := g.stands[w]; !ok {
						g.stands[w] = nil
						news = append(news, w)
					}
				}
			}
		}
	}
	return nil
}

// mayBeIn says whether a piece, or what it stands for, is in the name.
func (g *glue) mayBeIn(name, piece string, seen map[string]bool) bool {
	if strings.Contains(name, piece) {
		return true
	}
	seen[piece] = true
	for _, w := range g.stands[piece] {
		if !seen[w] && g.mayBeIn(name, w, seen) {
			return true
		}
	}
	return false
}

// makes says whether one of the names may be made in the file.
func (g *glue) makes(id int32) bool {
	return slices.ContainsFunc(g.made[id], func(pieces []string) bool {
		return slices.ContainsFunc(g.names, func(name string) bool {
			return !slices.ContainsFunc(pieces, func(s string) bool { return !g.mayBeIn(name, s, map[string]bool{}) })
		})
	})
}

// asks are directives that name a macro without using it.
var asks = map[string]bool{"ifdef": true, "ifndef": true, "undef": true}

// note looks at all uses in a text, or in the body of the macro by.
func (g *glue) note(u *use, toks []token, by *macroBody) {
	for i, t := range toks {
		if t.kind != tokIdent {
			continue
		}
		if _, ok := g.open[string(t.text)]; !ok {
			continue
		}
		fixed, passed, ok := g.pieces(toks, i, by)
		switch {
		case len(fixed) > 0:
			u.made = append(u.made, fixed)
		case ok && by != nil:
			add(u.open, by.name, passed)
		default:
			u.wild = true
		}
	}
}

// pieces gives the words that are sure to be in what the use of an open macro
// makes, and the positions of parameters of the macro by that are.
func (g *glue) pieces(toks []token, at int, by *macroBody) (fixed []string, passed []int, ok bool) {
	args, _, ok := arguments(toks, at)
	if !ok {
		return nil, nil, false
	}
	for _, pos := range g.open[string(toks[at].text)] {
		if pos >= len(args) || len(args[pos]) == 0 {
			continue
		}
		a := args[pos]
		w := string(a[0].text)
		if _, isOpen := g.open[w]; isOpen {
			if _, end, ok := arguments(a, 0); ok && end == len(a) {
				f, p, _ := g.pieces(a, 0, by)
				fixed, passed = append(fixed, f...), append(passed, p...)
			}
			continue
		}
		for _, t := range chain(a) {
			if pos, ok := by.param(t); ok {
				passed = append(passed, pos)
			} else if w := string(t.text); !counters[w] {
				fixed = append(fixed, w)
			}
		}
	}
	return fixed, passed, true
}

// counters are macros that the compiler gives a number each time.
var counters = map[string]bool{"__COUNTER__": true, "__LINE__": true, "__INCLUDE_LEVEL__": true}

// chain gives the words of an argument that is one word, or several with ##
// between them; nothing for any other, of which only an end would be glued.
func chain(arg []token) (out []token) {
	for i, t := range arg {
		if word := t.kind == tokIdent || t.kind == tokNumber; i%3 == 0 && word {
			out = append(out, t)
		} else if i%3 == 0 || !t.is('#') {
			return nil
		}
	}
	if len(arg)%3 != 1 {
		return nil
	}
	return out
}
