// SPDX-License-Identifier: Apache-2.0

package kbuild

import (
	"bytes"
	"errors"
	"slices"
)

// glue finds where ## may make one of some names, in the files that a set of
// units reads.
//
// A macro whose body glues its parameters, and may make one of the names with
// the right arguments, is open. Each use of an open macro is looked at: with its
// arguments in their places it may make one of the names, or not. Inside of
// another macro's body that one becomes open; elsewhere the file counts.
type glue struct {
	files *fileTexts
	names []string
	// given are macros of command lines: nothing is known of what they are.
	given map[string]bool
	// open are the open macros with what they make, by its key.
	open map[string]map[string]pattern
	// stands are words that are macros somewhere, with the words that they may
	// stand for.
	stands map[string][]string
	// makers are files in which one of the names may be made.
	makers map[int32]bool

	news  map[string]bool // open macros whose uses have to be looked at (again)
	words map[string]bool // words in patterns that stands has been asked for
}

// maxOpen bounds the open macros, and maxPatterns what one of them makes. Linux
// 6.1 has a dozen that glue nothing but their parameters.
const (
	maxOpen     = 500
	maxPatterns = 50
)

var errManyOpen = errors.New("too many macros glue what they are given")

// findGlue looks through the files.
func findGlue(files *fileTexts, names []string, given map[string]bool) (*glue, error) {
	g := &glue{files: files, names: names, given: given, open: map[string]map[string]pattern{}, stands: map[string][]string{},
		makers: map[int32]bool{}, news: map[string]bool{}, words: map[string]bool{}}
	type chain struct {
		macro string
		p     pattern
	}
	res, err := search(files, func(text []byte) *[]chain {
		if !bytes.Contains(text, []byte("##")) {
			return nil
		}
		var out []chain
		dirs, _ := directives(text)
		for _, d := range dirs {
			if m := defineOf(d); m != nil {
				for _, p := range m.chains() {
					if g.fits(p) {
						out = append(out, chain{m.name, p})
					}
				}
			}
		}
		return &out
	})
	if err != nil {
		return nil, err
	}
	for _, chains := range res {
		for _, c := range *chains {
			g.add(c.macro, c.p)
		}
	}
	for len(g.news) > 0 {
		if err := g.followUses(); err != nil {
			return nil, err
		}
	}
	return g, nil
}

func (g *glue) fits(p pattern) bool {
	return slices.ContainsFunc(g.names, func(n string) bool { return p.fits(n, g.stands) })
}

// add notes what an open macro makes.
func (g *glue) add(macro string, p pattern) {
	if g.open[macro] == nil {
		g.open[macro] = map[string]pattern{}
	}
	if k := p.key(); g.open[macro][k] == nil {
		g.open[macro][k] = p
		g.news[macro] = true
	}
}

// use is what the uses of open macros in a file come to.
type use struct {
	open  map[string][]pattern
	made  bool
	words []string
}

// followUses looks at all uses of open macros that are news.
func (g *glue) followUses() error {
	news := wordSearch(keys(g.news))
	clear(g.news)
	res, err := search(g.files, func(text []byte) *use {
		if !news.in(text) {
			return nil
		}
		u := &use{open: map[string][]pattern{}}
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
		return err
	}
	fresh := map[string]bool{}
	for id, u := range res {
		if u.made {
			g.makers[id] = true
		}
		for macro, patterns := range u.open {
			for _, p := range patterns {
				g.add(macro, p)
			}
			if len(g.open[macro]) > maxPatterns {
				return errManyOpen
			}
		}
		for _, w := range u.words {
			if !g.words[w] {
				fresh[w] = true
			}
		}
	}
	if len(g.open) > maxOpen {
		return errManyOpen
	}
	more, err := g.whatStands(fresh)
	if more { // what did not fit may do so now
		for m := range g.open {
			g.news[m] = true
		}
	}
	return err
}

// asks are directives that name a macro without using it.
var asks = map[string]bool{"ifdef": true, "ifndef": true, "undef": true}

// note looks at all uses in a text, or in the body of the macro by.
func (g *glue) note(u *use, toks []token, by *macroBody) {
	for i, t := range toks {
		if t.kind != tokIdent || g.open[string(t.text)] == nil || hashes(toks, i+1) || i > 1 && hashes(toks, i-2) {
			continue
		}
		for _, p := range g.results(toks, i, by) {
			for _, x := range p {
				if x.kind == pieceWord {
					u.words = append(u.words, x.text)
				}
			}
			switch {
			case !g.fits(p):
			case by != nil:
				u.open[by.name] = append(u.open[by.name], p)
			default:
				u.made = true
			}
		}
	}
}

// results lists what the open macro that stands at a place makes there.
func (g *glue) results(toks []token, at int, by *macroBody) (out []pattern) {
	args, _, ok := arguments(toks, at)
	for _, p := range g.open[string(toks[at].text)] {
		here := []pattern{nil}
		for _, x := range p {
			alternatives := []pattern{{x}}
			if x.kind == pieceParam {
				alternatives = []pattern{{piece{}}}
				if ok && x.param < len(args) {
					alternatives = g.argument(args[x.param], by)
				}
			}
			var longer []pattern
			for _, h := range here {
				for _, a := range alternatives {
					longer = append(longer, append(slices.Clip(h), a...))
				}
			}
			if here = longer; len(here) > maxPatterns {
				return []pattern{{piece{}}}
			}
		}
		out = append(out, here...)
	}
	return out
}

// argument lists what an argument may be, as far as it is part of a name: one
// word, words glued together, or what an open macro makes.
func (g *glue) argument(arg []token, by *macroBody) []pattern {
	if len(arg) == 0 {
		return []pattern{nil}
	}
	if len(arg) > 1 && g.open[string(arg[0].text)] != nil {
		if _, end, ok := arguments(arg, 0); ok && end == len(arg) {
			return g.results(arg, 0, by)
		}
	}
	var p pattern
	for i, t := range arg {
		switch {
		case i%3 == 0 && (t.kind == tokIdent || t.kind == tokNumber):
			x := by.piece(t, len(arg) > 1)
			if g.given[x.text] {
				x = piece{}
			}
			p = append(p, x)
		case i%3 == 0 || !t.is('#'):
			return []pattern{{piece{}}}
		}
	}
	if len(arg)%3 != 1 {
		return []pattern{{piece{}}}
	}
	return []pattern{p}
}

// whatStands looks for words that are macros. In most files none is; where one
// is a single word, that one may be glued instead. What reads a file that makes
// it anything else is given up on. Macros with parameters do not matter: without
// a parenthesis behind it their name is not one.
func (g *glue) whatStands(news map[string]bool) (more bool, err error) {
	type found struct {
		words map[string]string
		wild  bool
	}
	for len(news) > 0 {
		res, err := search(g.files, func(text []byte) *found {
			if !definesAny(text, news) {
				return nil
			}
			f := &found{words: map[string]string{}}
			dirs, _ := directives(text)
			for _, d := range dirs {
				m := defineOf(d)
				switch {
				case m == nil || !news[m.name] || len(d) > 3 && d[3].is('(') && !d[3].spaced:
				case len(m.body) == 1 && (m.body[0].kind == tokIdent || m.body[0].kind == tokNumber):
					f.words[m.name] = string(m.body[0].text)
				case len(m.body) > 0 && (m.body[0].kind == tokPunct || m.body[0].kind == tokString) && m.body[len(m.body)-1].kind == tokPunct:
					// Brackets or a text at both ends cannot be glued to a name.
				default:
					f.wild = true
				}
			}
			return f
		})
		if err != nil {
			return false, err
		}
		for w := range news {
			g.words[w] = true
		}
		news = map[string]bool{}
		for id, f := range res {
			if f.wild {
				g.makers[id] = true
			}
			for n, w := range f.words {
				if !slices.Contains(g.stands[n], w) && w != n {
					g.stands[n] = append(g.stands[n], w)
					more = true
					if !g.words[w] {
						news[w] = true
					}
				}
			}
		}
	}
	return more, nil
}
