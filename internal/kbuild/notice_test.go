// SPDX-License-Identifier: Apache-2.0

package kbuild

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/lupatch/lupatch/internal/refuse"
)

// wide is a header that many files read, each of which does something else with
// it.
const wide = `#ifndef WIDE_H
#define WIDE_H
#define WIDE 1
#define TWICE (2 * WIDE)
#define ALONE 7
#define call_alpha_beta() 5
#define GATE
struct wide { int a; };
struct apart { int a; };
enum kinds { KIND_A, KIND_B };
extern int wide_extern(struct wide *w, int n);
static inline int wide_inline(struct wide *w)
{
#ifdef GATE
	return w->a + 1;
#else
	return w->a;
#endif
}
static inline int wide_outer(struct wide *w) { return wide_inline(w) + TWICE; }
#endif
`

// glueH makes names in all the ways there are.
const glueH = `#define ___PASTE(a, b) a##b
#define __PASTE(a, b) ___PASTE(a, b)
#define SANDWICH(x, y) x##_##y
#define PREFIX call_
#define PREFIXED(x) __PASTE(PREFIX, x)
#define THIRD(x, y, z) __PASTE(__PASTE(x, y), z)
#define UNIQUE(x) __PASTE(__PASTE(unique_, x), __COUNTER__)
`

var wideUsers = map[string]string{
	"nothing":   "int f(void) { return 1; }",
	"macro":     "int f(void) { return WIDE; }",
	"outer":     "int f(struct wide *w) { return wide_outer(w); }",
	"inline":    "int f(struct wide *w) { return wide_inline(w); }",
	"address":   "void *f = wide_inline;",
	"prototype": "int f(struct wide *w) { return wide_extern(w, 1); }",
	"structure": "struct wide w;",
	"kind":      "int f(void) { return KIND_B; }",
	"tested":    "#ifdef ALONE\nint f;\n#endif",
	"valued":    "#if ALONE > 6\nint f;\n#endif",
	"hidden":    "#if 0\nint f = ALONE;\n#endif",
	"sandwich":  "int f(void) { return SANDWICH(call, alpha_beta)(); }",
	"nested":    "int f(void) { return THIRD(call_, alpha, _beta)(); }",
	"prefixed":  "int f(void) { return PREFIXED(alpha_beta)(); }",
	"passed":    "#define MINE(n) SANDWICH(call, n)\nint f(void) { return MINE(alpha_beta)(); }",
	"unique":    "int UNIQUE(id) = 1;",
	"elsewhere": "int f(int call_beta) { return SANDWICH(call, beta); }",
}

// TestNotice changes the header in many ways and holds what is left out against
// a comparison of all: none may be missed.
func TestNotice(t *testing.T) {
	tr := smallTree(t)
	files := map[string]string{"include/wide.h": wide, "include/glue.h": glueH}
	var units []string
	for name, code := range wideUsers {
		files["u/"+name+".c"] = "#include <wide.h>\n#include <glue.h>\n" + code + "\n"
		units = append(units, "u/"+name+".c")
	}
	// More than are compared without asking.
	for i := range fewReaders {
		name := fmt.Sprintf("u/plain%d.c", i)
		files[name] = fmt.Sprintf("#include <wide.h>\nint plain%d;\n", i)
		units = append(units, name)
	}
	write(t, tr.Src, files)
	graphOf(t, tr, units...)
	for _, c := range []struct {
		name, old, new string
		// want are the units whose code differs, most are those that may be
		// compared at most; nil if all have to be.
		want string
		most []string
	}{
		{"comment", "#define WIDE 1", "/* one */\n#define WIDE 1", "", []string{}},
		{"macro", "#define WIDE 1", "#define WIDE 2", "macro outer", []string{"macro", "outer"}},
		{"macro of use in one condition", "#define ALONE 7", "#define ALONE 6", "valued", []string{"hidden", "valued"}},
		{"macro taken away", "#define ALONE 7\n", "", "tested valued", []string{"hidden", "tested", "valued"}},
		{"new macro", "#define ALONE 7", "#define ALONE 7\n#define FRESH 1", "", []string{}},
		{"macro that is glued together", "#define call_alpha_beta() 5", "#define call_alpha_beta() 6", "nested passed prefixed sandwich", []string{"nested", "passed", "prefixed", "sandwich"}},
		{"inline", "return w->a + 1", "return w->a + 2", "address inline outer", []string{"address", "inline", "outer"}},
		{"prototype", "int n);", "long n);", "prototype", []string{"prototype"}},
		{"structure", "struct wide { int a; };", "struct wide { int a, b; };", "address inline outer prototype structure", []string{"address", "inline", "outer", "prototype", "structure"}},
		{"structure of nobody", "struct apart { int a; };", "struct apart { int a, b; };", "", []string{}},
		{"enumeration", "KIND_A, KIND_B", "KIND_A, KIND_AB, KIND_B", "kind", []string{"kind"}},
		{"two things", "#define WIDE 1\n#define TWICE (2 * WIDE)\n#define ALONE 7", "#define WIDE 3\n#define TWICE (2 * WIDE)\n#define ALONE 5", "macro outer valued", []string{"hidden", "macro", "outer", "valued"}},
		{"condition", "#ifndef WIDE_H\n#define WIDE_H\n", "#ifndef WIDE_H\n#define WIDE_H\n#if 1\n#endif\n", "", nil},
		{"include", "#define WIDE 1\n", "#include \"top.h\"\n#define WIDE 1\n", "", nil},
		{"order", "#define WIDE 1\n#define TWICE (2 * WIDE)\n", "#define TWICE (2 * WIDE)\n#define WIDE 1\n", "", nil},
		{"variable", "struct apart {", "static int here = 3;\nstruct apart {", "*", nil},
	} {
		ov := overlay(t, tr, map[string][]byte{"include/wide.h": []byte(strings.Replace(wide, c.old, c.new, 1))})
		all, err := tr.readersOf(t.Context(), []string{"include/wide.h"})
		if err != nil || len(all) != len(units) {
			t.Fatalf("%d units read it, %v", len(all), err)
		}
		changed, err := tr.notOnlyComments(ov, []string{"include/wide.h"})
		if err != nil {
			t.Fatal(err)
		}
		kept := []*TU{}
		if len(changed) > 0 {
			if kept, err = tr.mayNotice(t.Context(), ov, changed, all); err != nil {
				t.Fatal(err)
			}
		}
		if c.most == nil && len(kept) != len(all) || c.most != nil && names(kept) != strings.Join(c.most, " ") {
			t.Errorf("%s: %d are compared: %.200s", c.name, len(kept), names(kept))
		}
		var differ []*TU
		checked := 0
		for _, u := range all {
			if strings.Contains(u.Source, "plain") && !strings.HasSuffix(u.Source, "plain7.c") {
				continue // they are all the same
			}
			checked++
			_, _, code, err := tr.differ(t.Context(), u, ov)
			if err != nil {
				t.Fatal(err)
			}
			if code {
				differ = append(differ, u)
				if !slices.Contains(kept, u) {
					t.Errorf("%s: %s is left out, and differs", c.name, u.Source)
				}
			}
		}
		if c.want != "*" && names(differ) != c.want || c.want == "*" && len(differ) != checked {
			t.Errorf("%s: differing are %.200s, want %s", c.name, names(differ), c.want)
		}
	}
}

// names are those of units in u/.
func names(units []*TU) string {
	var out []string
	for _, u := range units {
		out = append(out, strings.TrimSuffix(strings.TrimPrefix(u.Source, "u/"), ".c"))
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

func TestTooManyUnits(t *testing.T) {
	tr := smallTree(t)
	files := map[string]string{"include/wide.h": wide}
	var units []string
	for i := range 8 {
		name := fmt.Sprintf("u/u%d.c", i)
		files[name] = "#include <wide.h>\nint f = WIDE;\n"
		units = append(units, name)
	}
	write(t, tr.Src, files)
	graphOf(t, tr, units...)
	ov := overlay(t, tr, map[string][]byte{"include/wide.h": []byte(strings.Replace(wide, "WIDE 1", "WIDE 2", 1))})
	a, err := tr.Affected(t.Context(), ov, []string{"include/wide.h"}, nil, 3)
	wantRefusal(t, err, refuse.HeaderScope, "of the 8 files that read it more than 3 would have to be compiled, among them u/u")
	wantRefusal(t, err, refuse.HeaderScope, "--max-units")
	if a != nil {
		t.Errorf("%+v", a)
	}
	// What is compiled in any case does not count.
	a, err = tr.Affected(t.Context(), ov, []string{"include/wide.h"}, units[:5], 3)
	if err != nil || a.Readers != 3 || len(a.Units) != 3 || a.Units[0].Unit != Vmlinux {
		t.Errorf("%+v, %v", a, err)
	}
}
