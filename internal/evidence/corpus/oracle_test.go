// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lupatch/lupatch/internal/manifest"
)

func compiled(t *testing.T, source string) string {
	t.Helper()
	c := filepath.Join(t.TempDir(), "unit.c")
	if err := os.WriteFile(c, []byte(source), 0o644); err != nil {
		t.Fatal(err)
	}
	o := c + ".o"
	if out, err := exec.Command("gcc", "-O2", "-mcmodel=kernel", "-fno-pic", "-fcf-protection=none", "-c", "-o", o, c).CombinedOutput(); err != nil {
		t.Fatalf("gcc: %v\n%s", err, out)
	}
	return o
}

// update makes a manifest. Functions with a + are carried, not redirected.
func update(names ...string) *manifest.Manifest {
	u := manifest.Unit{Name: manifest.Section}
	for _, n := range names {
		n, carried := strings.CutPrefix(n, "+")
		u.Functions = append(u.Functions, manifest.Function{Name: n, File: "unit.c", New: carried})
	}
	return &manifest.Manifest{Units: []manifest.Unit{u}}
}

const before = `
extern int out(const char *, ...);
static const int table[] = { 1, 2, 3, 4 };
static int state[4];
__attribute__((noinline)) int first(int a) { static int calls; return out("first %d", a + calls++); }
int second(int a) { static int calls; state[a & 3]++; return out("second", table[a & 3] + calls++); }
int third(int a) { if (a) out("third", __LINE__); return first(a) + 1; }
`

// What moves, is renumbered or gets a longer way to jump is the same; what does
// something else, or reads another constant, is not.
func TestOracle(t *testing.T) {
	const newFirst = `
extern int out(const char *, ...);
static const int table[] = { 1, 2, 3, 4 };
static int state[4];
int added(int a) { static int calls; return out("added text", a * calls++); }
__attribute__((noinline)) int first(int a) { static int calls; out("more"); return out("first %d", a + calls++); }
int second(int a) { static int calls; state[a & 3]++; return out("second", table[a & 3] + calls++); }
int third(int a) { if (a) out("third", __LINE__); return first(a) + 1; }
`
	const newTable = `
extern int out(const char *, ...);
static const int table[] = { 1, 2, 3, 5 };
static int state[4];
__attribute__((noinline)) int first(int a) { static int calls; return out("first %d", a + calls++); }
int second(int a) { static int calls; state[a & 3]++; return out("second", table[a & 3] + calls++); }
int third(int a) { if (a) out("third", __LINE__); return first(a) + 1; }
`
	for _, c := range []struct {
		name, after string
		emitted     []string
		want        string
	}{
		{"nothing", before, nil, "equal"},
		{"all found", newFirst, []string{"first", "added"}, "only line numbers: unit.c:third"},
		{"one forgotten", newFirst, []string{"added"}, "missing: unit.c:first; only line numbers: unit.c:third"},
		{"one too many", newFirst, []string{"first", "added", "second"}, "extra: unit.c:second; only line numbers: unit.c:third"},
		{"goes along with what it calls", newFirst, []string{"+first", "third", "+added"}, "equal"},
		{"a copy, and a caller of nothing", newTable, []string{"second", "+first"}, "carried copy: unit.c:first"},
		{"a caller of a copy", newTable, []string{"second", "third", "+first"}, "carried copy: unit.c:first; only to call a copy: unit.c:third"},
		{"no caller of a copy", newFirst, []string{"second", "+first", "added"}, "extra: unit.c:second; only line numbers: unit.c:third"},
		{"a constant", newTable, []string{"second"}, "equal"},
		{"a constant forgotten", newTable, nil, "missing: unit.c:second"},
		{"part of a function", newTable, []string{"second.cold"}, "equal"},
	} {
		t.Run(c.name, func(t *testing.T) {
			v, err := ask(t.Context(), []string{"unit.c"}, map[string]string{"unit.c": compiled(t, before)}, map[string]string{"unit.c": compiled(t, c.after)}, update(c.emitted...))
			if err != nil {
				t.Fatal(err)
			}
			if v.String() != c.want {
				t.Errorf("%q, want %q", v, c.want)
			}
		})
	}
}

func TestTableGoesOn(t *testing.T) {
	path := filepath.Join(t.TempDir(), "t.tsv")
	a, b := &fix{name: "a.patch"}, &fix{name: "b.patch"}
	first, err := openTable(path, "R", "tree1")
	if err != nil {
		t.Fatal(err)
	}
	if err := first.put(&row{fix: a.name, outcome: outcomeRefused, detail: "two\tcells\nand lines"}); err != nil {
		t.Fatal(err)
	}
	if err := first.put(&row{fix: b.name, outcome: outcomeLoaded}); err != nil {
		t.Fatal(err)
	}
	for tree, want := range map[string]bool{"tree1": true, "tree2": false} {
		again, err := openTable(path, "R", tree)
		if err != nil {
			t.Fatal(err)
		}
		if got := again.current(a, nil, true); got != want {
			t.Errorf("%s: current %v", tree, got)
		}
		// Asked to redo refusals, it redoes those and keeps all else.
		redo := map[string]bool{outcomeRefused: true}
		if again.current(a, redo, true) || !again.current(b, redo, true) || again.current(&fix{name: "c.patch"}, redo, true) {
			t.Errorf("%s: redo", tree)
		}
	}
	if err := os.WriteFile(path, []byte("fix\tarea\na\tb\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := openTable(path, "R", "tree1"); err == nil {
		t.Error("a damaged table was read")
	}
}
