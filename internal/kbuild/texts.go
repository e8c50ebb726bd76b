// SPDX-License-Identifier: Apache-2.0

package kbuild

import (
	"bytes"
	"context"
	"os"
	"runtime"

	"golang.org/x/sync/errgroup"
)

// fileTexts are files of a graph, some of them in changed versions besides.
type fileTexts struct {
	ctx     context.Context
	paths   []string
	ids     []int32
	changed map[int32][]byte
}

// search calls f with each file's text, in both versions where there are two, and
// collects what it finds.
func search[T any](files *fileTexts, f func(text []byte) *T) (map[int32]*T, error) {
	return searchEach(files, func(_ int32, versions [][]byte) *T {
		if len(versions) == 1 {
			return f(versions[0])
		}
		// Both at once: whatever is in either counts.
		return f(append(append(bytes.Clone(versions[0]), '\n'), versions[1]...))
	})
}

func searchEach[T any](files *fileTexts, f func(id int32, versions [][]byte) *T) (map[int32]*T, error) {
	g, ctx := errgroup.WithContext(files.ctx)
	n := runtime.GOMAXPROCS(0)
	found := make([]map[int32]*T, n)
	for w := range n {
		found[w] = map[int32]*T{}
		g.Go(func() error {
			for i := w; i < len(files.ids); i += n {
				if ctx.Err() != nil {
					return ctx.Err()
				}
				id := files.ids[i]
				text, err := os.ReadFile(files.paths[id])
				if err != nil {
					return err
				}
				versions := [][]byte{text}
				if b, ok := files.changed[id]; ok {
					versions = append(versions, b)
				}
				if t := f(id, versions); t != nil {
					found[w][id] = t
				}
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	all := found[0]
	for _, m := range found[1:] {
		for id, t := range m {
			all[id] = t
		}
	}
	return all, nil
}

// directives takes a text apart into its directives and the rest.
func directives(text []byte) (dirs [][]token, rest []token) {
	l := newLexer(joinLines(text))
	var dir []token
	in := false
	for {
		t, ok := l.next()
		switch {
		case !ok:
			return dirs, rest
		case t.kind == tokHash:
			in, dir = true, []token{t}
		case t.kind == tokEnd:
			in = false
			dirs = append(dirs, dir)
		case in:
			dir = append(dir, t)
		default:
			rest = append(rest, t)
		}
	}
}

// words finds any of some words in a text.
type words struct {
	set   map[string]bool
	bytes [][]byte
}

func wordSearch(list []string) *words {
	w := &words{set: map[string]bool{}}
	for _, s := range list {
		w.set[s] = true
		w.bytes = append(w.bytes, []byte(s))
	}
	return w
}

// in says whether one of the words may be in the text, as a word of its own.
func (w *words) in(text []byte) bool {
	const few = 6 // up to which searching for each is quicker
	if len(w.bytes) > few {
		return mentionsAny(text, w.set)
	}
	for _, b := range w.bytes {
		if hasWord(text, b) {
			return true
		}
	}
	return false
}

func hasWord(text, word []byte) bool {
	for at := 0; ; {
		i := bytes.Index(text[at:], word)
		if i < 0 {
			return false
		}
		at += i
		end := at + len(word)
		if (at == 0 || !isWordByte(text[at-1])) && (end == len(text) || !isWordByte(text[end])) {
			return true
		}
		at = end
	}
}

func isWordByte(c byte) bool { return isIdentStart(c) || isDigit(c) || c >= 0x80 }

// definesAny says whether the text may define one of the names as a macro.
func definesAny(text []byte, names map[string]bool) bool {
	for at := 0; ; {
		i := bytes.Index(text[at:], defineWord)
		if i < 0 {
			return false
		}
		at += i + len(defineWord)
		if names[string(ident(skipBlanks(text[at:])))] {
			return true
		}
	}
}

func keys[K comparable, V any](m map[K]V) []K {
	out := make([]K, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	return out
}
