// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/lupatch/lupatch/internal/manifest"
)

// The oracle says which functions' code a fix changes. It shares nothing with
// patchgen: it reads what objdump prints of objects that plain kbuild made with
// the kernel's unaltered flags, and compares text.

// verdict compares what the oracle finds with what an update holds.
type verdict struct {
	// missing differ, but are not in the update; extra are in the update, but
	// do not differ. lines differ only in immediate operands, which is what
	// __LINE__ compiles to; flags are extra, but do differ under the flags that
	// lupatch compiles with to compare; copies are unchanged, and the manifest
	// says that they are not redirected but carried for others to call; callers
	// are unchanged, but call such a copy of a function that differs.
	missing, extra, lines, flags, copies, callers []string
}

func (v *verdict) String() string {
	var parts []string
	for _, x := range []struct {
		what  string
		names []string
	}{{"missing", v.missing}, {"extra", v.extra}, {"only line numbers", v.lines}, {"only under section flags", v.flags}, {"carried copy", v.copies}, {"only to call a copy", v.callers}} {
		if len(x.names) > 0 {
			parts = append(parts, x.what+": "+strings.Join(x.names, " "))
		}
	}
	if len(parts) == 0 {
		return "equal"
	}
	return strings.Join(parts, "; ")
}

// explainExtra moves functions that do differ with section flags out of extra.
func (v *verdict) explainExtra(other *verdict) {
	v.extra = slices.DeleteFunc(v.extra, func(name string) bool {
		if slices.Contains(other.extra, name) {
			return false
		}
		v.flags = append(v.flags, name)
		return true
	})
}

// ask compares all objects of a fix.
func ask(ctx context.Context, sources []string, before, after map[string]string, m *manifest.Manifest) (*verdict, error) {
	v := &verdict{}
	type pair struct{ old, new map[string]*code }
	pairs := map[string]pair{}
	for _, s := range sources {
		old, err := disassemble(ctx, before[s])
		if err != nil {
			return nil, err
		}
		new, err := disassemble(ctx, after[s])
		if err != nil {
			return nil, err
		}
		pairs[s] = pair{old, new}
	}
	emitted, redirected := map[string]map[string]bool{}, map[string]map[string]bool{}
	for _, s := range sources {
		emitted[s], redirected[s] = map[string]bool{}, map[string]bool{}
	}
	for _, u := range m.Units {
		for _, f := range u.Functions {
			if emitted[f.File] != nil {
				emitted[f.File][family(f.Name)] = true
				redirected[f.File][family(f.Name)] = redirected[f.File][family(f.Name)] || !f.New
			}
		}
	}
	// Functions that the update brings and does not redirect, though the old
	// version has them: others may have to be replaced to call them.
	var carried []string
	for s, names := range emitted {
		for name := range names {
			if pairs[s].old[name] != nil && !redirected[s][name] {
				carried = append(carried, name)
			}
		}
	}
	for _, s := range sources {
		old, new := pairs[s].old, pairs[s].new
		differs := map[string]bool{}
		for name, text := range new {
			if o, ok := old[name]; !ok || !slices.Equal(o.lines, text.lines) {
				if text.discarded || ok && o.discarded {
					continue // __init and __exit: no livepatch carries them
				}
				differs[name] = true
				switch {
				case emitted[s][name]:
				case ok && slices.Equal(o.withoutNumbers(), text.withoutNumbers()):
					v.lines = append(v.lines, path.Base(s)+":"+name)
				default:
					v.missing = append(v.missing, path.Base(s)+":"+name)
				}
			}
		}
		for name := range emitted[s] {
			switch _, was := old[name]; {
			case differs[name]:
			case was && !redirected[s][name]:
				v.copies = append(v.copies, path.Base(s)+":"+name)
			case slices.ContainsFunc(carried, func(c string) bool { return new[name].calls(c) }):
				v.callers = append(v.callers, path.Base(s)+":"+name)
			default:
				v.extra = append(v.extra, path.Base(s)+":"+name)
			}
		}
	}
	for _, names := range [][]string{v.missing, v.extra, v.lines, v.copies, v.callers} {
		slices.Sort(names)
	}
	return v, nil
}

var (
	twin    = regexp.MustCompile(`(\.(cold|isra|constprop|part|localalias)(\.\d+)?)+$`)
	counter = regexp.MustCompile(`\.\d+$|(__UNIQUE_ID_[A-Za-z_]+?)\d+(\.\d+)?$`)
)

// family is the name of the function that a symbol is a part or a variant of.
func family(symbol string) string { return twin.ReplaceAllString(symbol, "") }

var number = regexp.MustCompile(`\$0x[0-9a-f]+`)

// code is what a function and its parts consist of.
type code struct {
	lines     []string
	discarded bool // in a section that is freed after it has run
}

// calls says whether the code branches to a function of that family.
func (c *code) calls(name string) bool {
	return c != nil && slices.ContainsFunc(c.lines, func(l string) bool {
		for _, w := range strings.FieldsFunc(l, func(r rune) bool { return strings.ContainsRune(" {}:+-<>", r) }) {
			if family(w) == name {
				return strings.HasPrefix(l, "call") || strings.HasPrefix(l, "j")
			}
		}
		return false
	})
}

// withoutNumbers leaves immediate operands out, as __LINE__ is one.
func (c *code) withoutNumbers() []string {
	out := make([]string, len(c.lines))
	for i, l := range c.lines {
		out[i] = number.ReplaceAllString(l, "$N")
	}
	return out
}

// disassemble gives the functions of an object by family, as text that does not
// depend on where anything is.
func disassemble(ctx context.Context, object string) (map[string]*code, error) {
	img, err := readImage(object)
	if err != nil {
		return nil, err
	}
	out := map[string]*code{}
	err = objdump(ctx, object, func(fn *listing) {
		lines := fn.normal(img)
		name := family(fn.name)
		c := out[name]
		if c == nil {
			c = &code{}
			out[name] = c
		}
		// Parts come in the order of their sections, which is the same in
		// both objects; the name tells them apart.
		c.lines = append(c.lines, fmt.Sprintf("<%s>", counter.ReplaceAllString(fn.name, "$1")))
		c.lines = append(c.lines, lines...)
		c.discarded = c.discarded || strings.HasPrefix(fn.section, ".init") || strings.HasPrefix(fn.section, ".exit")
	})
	return out, err
}
