// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestParseSide(t *testing.T) {
	failed := errors.New("exit status 2")
	for _, c := range []struct {
		name, out string
		exit      int
		err       error
		want      side
	}{
		{"lupatch's", "changed function: b\nnew function: a\nalready ran: c\n", 0, nil,
			side{funcs: []string{"a", "b"}, new: map[string]bool{"a": true, "b": false}, says: []string{"already ran: c"}, made: true}},
		{"kpatch's", "x.o: changed function: b.isra.0\nx.o: changed function: b.isra.0\n", 0, nil,
			side{funcs: []string{"b.isra.0"}, new: map[string]bool{"b.isra.0": false}, made: true}},
		{"refused", "x.o: changed function: b\nERROR: x.o: 1 unsupported section change(s)\nprog: unreconcilable difference\n", 2, failed,
			side{new: map[string]bool{}, says: []string{"ERROR: x.o: 1 unsupported section change(s)", "prog: unreconcilable difference"}}},
		{"nothing changed", "", nothingExit, errors.New("exit status 3"), side{new: map[string]bool{}, nothing: true}},
		{"killed", "", -1, errors.New("signal: killed"), side{new: map[string]bool{}, says: []string{"signal: killed"}}},
		{"a text that only looks like it", "WARNING: changed function: b is odd\n", 0, nil,
			side{new: map[string]bool{}, says: []string{"WARNING: changed function: b is odd"}, made: true}},
	} {
		if got := parseSide([]byte(c.out), c.exit, c.err); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: got %+v, want %+v", c.name, got, c.want)
		}
	}
}

func TestVerdict(t *testing.T) {
	makes := func(f ...string) side { return side{made: true, funcs: f} }
	nothing, refuses := side{nothing: true}, side{says: []string{"no"}}
	for _, c := range []struct {
		ours, theirs side
		want         string
	}{
		{makes("a", "b"), makes("a", "b"), verdictSame},
		{makes("a"), makes("a", "b"), verdictDiffer},
		{makes("a"), refuses, verdictOurs},
		{makes("a"), nothing, verdictOurs},
		{nothing, makes("a"), verdictTheirs},
		{nothing, nothing, verdictNothing},
		{refuses, nothing, verdictNone},
		{nothing, refuses, verdictNone},
		{refuses, refuses, verdictNeither},
	} {
		if got := verdictOf(c.ours, c.theirs); got != c.want {
			t.Errorf("%+v and %+v: %s, want %s", c.ours, c.theirs, got, c.want)
		}
	}
}

// What no rule is for stays unexplained, above all a function that differs and
// that only one of them has.
func TestDisputeClass(t *testing.T) {
	for _, c := range []struct {
		d    dispute
		want class
	}{
		{dispute{known: true, number: true}, classLine},
		{dispute{known: true, equal: true, number: true}, classLabel},
		{dispute{ours: true, known: true, number: true}, classInlinedLine},
		{dispute{ours: true, known: true, new: true, equal: true, number: true, copies: true}, classCopy},
		{dispute{ours: true, known: true, equal: true, number: true, copies: true}, classCaller},
		{dispute{ours: true, known: true, alias: true}, classAlias},
		{dispute{ours: true, known: true, hand: "looked at"}, classByHand},
		{dispute{ours: true, known: true}, classMissed},
		{dispute{ours: true, known: true, equal: true, number: true}, classMissed}, // replaced without a reason
		{dispute{ours: true, new: true}, classMissed},                              // a new one that kpatch's lacks
		{dispute{known: true}, classMissed},                                        // lupatch's lacks a changed one
		{dispute{new: true}, classMissed},
	} {
		if got := c.d.class(); got != c.want {
			t.Errorf("%+v: %s, want %s", c.d, got, c.want)
		}
	}
}

func TestRefusalClass(t *testing.T) {
	const end = "create-diff-object: unreconcilable difference"
	for _, c := range []struct {
		says string
		want class
	}{
		{"x.o: function f.constprop.0 has no fentry/mcount call, unable to patch", classNoSite},
		{"x.o: changed section __ksymtab_strings not selected for inclusion", classExport},
		{"x.o: changed section .init.text not selected for inclusion", classAlreadyRan},
		{"x.o: changed section .rodata.scales not selected for inclusion", classConstants},
		{"ERROR: x.o: object size mismatch: table", classConstants},
		{"ERROR: x.o: reference to static local variable a.6 in f was removed", classStaticLocal},
		{"ERROR: x.o: symbol info mismatch: f", classSymbol},
		{"x.o: changed section .data.ops not selected for inclusion", classMissed},
		{"ERROR: x.o: 1 unsupported section change(s)", classMissed},
	} {
		if got := refusalClass([]string{c.says, end}); got != c.want {
			t.Errorf("%s: %s, want %s", c.says, got, c.want)
		}
	}
	if got := refusalClass(nil); got != classMissed {
		t.Errorf("silence: %s", got)
	}
}

// Every class that can come out has a text in the report.
func TestClassTexts(t *testing.T) {
	for _, r := range refusals {
		if !slices.ContainsFunc(classText, func(c struct {
			class class
			text  string
		}) bool {
			return c.class == r.class
		}) {
			t.Errorf("no text for %s", r.class)
		}
	}
}

// explained are two versions of a unit about which the differs could disagree.
func TestExplain(t *testing.T) {
	old, new := compiled(t, before), compiled(t, strings.Replace(strings.Replace(before, "__LINE__", "__LINE__+1", 1), "calls++); }\nint second", "calls--); }\nint second", 1))
	d := &duel{fix: "f", ours: parseSide([]byte("changed function: first\nchanged function: second\n"), 0, nil), theirs: parseSide([]byte("u.o: changed function: third\n"), 0, nil)}
	byHand := map[[2]string]string{{"f", "second"}: "because", {"other", "first"}: "not this one"}
	if err := d.explain(t.Context(), old, new, byHand); err != nil {
		t.Fatal(err)
	}
	want := []reason{{classMissed, "first", ""}, {classByHand, "second", "because"}, {classLine, "third", ""}}
	if !reflect.DeepEqual(d.why, want) || d.verdict != verdictDiffer || d.oracle != "nothing missing" {
		t.Errorf("%+v, %s, oracle %s", d.why, d.verdict, d.oracle)
	}
	d = &duel{fix: "f", ours: parseSide([]byte("changed function: second\n"), 0, nil), theirs: parseSide([]byte("ERROR: symbol info mismatch: x\n"), 2, errors.New("exit"))}
	if err := d.explain(t.Context(), old, new, nil); err != nil {
		t.Fatal(err)
	}
	if want := []reason{{classSymbol, "", ""}}; !reflect.DeepEqual(d.why, want) || d.oracle != "missing: first" {
		t.Errorf("%+v, oracle %s", d.why, d.oracle)
	}
}

func TestReadExplained(t *testing.T) {
	p := filepath.Join(t.TempDir(), "e.tsv")
	write := func(text string) {
		if err := os.WriteFile(p, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("# comment\n\na.patch\tf\tone\nb.patch\t\ttwo: three\n")
	got, err := readExplained(p)
	if want := map[[2]string]string{{"a.patch", "f"}: "one", {"b.patch", ""}: "two: three"}; err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%v, %v", got, err)
	}
	for _, bad := range []string{"a.patch\tf\n", "a.patch\tf\t\n", "\tf\ttext\n", "a\tb\tc\td\n", "a\tb\tone; two\n"} {
		write(bad)
		if _, err := readExplained(p); err == nil {
			t.Errorf("%q was read", bad)
		}
	}
	if _, err := readExplained(p + ".none"); err == nil {
		t.Error("a file that is not there was read")
	}
	if got, err := readExplained(""); err != nil || len(got) != 0 {
		t.Errorf("no file: %v, %v", got, err)
	}
}

// A run that was interrupted goes on; what another state of the source measured,
// or a damaged file, is not taken for it.
func TestDuelsGoOn(t *testing.T) {
	o := options{table: filepath.Join(t.TempDir(), "t.tsv"), release: "r"}
	first, err := openDuels(o, "tree")
	if err != nil {
		t.Fatal(err)
	}
	d := &duel{fix: "f.patch", source: "a.c", verdict: verdictDiffer, oracle: "nothing missing",
		ours:   side{took: 2 * time.Millisecond, funcs: []string{"a", "b"}, says: []string{"one\ttwo", "three"}},
		theirs: side{took: 4 * time.Millisecond}, why: []reason{{classLine, "a", ""}, {classByHand, "b", "it does: see there"}, {classExport, "*", ""}}}
	if err := first.put(d); err != nil {
		t.Fatal(err)
	}
	next, err := openDuels(o, "tree")
	if err != nil {
		t.Fatal(err)
	}
	if !next.has("f.patch", "a.c") || next.has("f.patch", "b.c") || len(next.rows) != 1 {
		t.Fatalf("%+v", next.rows)
	}
	if r := next.rows[0]; !reflect.DeepEqual(r.reasons(), d.why) || r.number("ratio") != 0.5 || r.verdict() != verdictDiffer || r.cell("lupatch says") != "one two / three" {
		t.Errorf("%+v, %+v", r, r.reasons())
	}
	o.seed = 2
	if other, err := openDuels(o, "tree"); err != nil || len(other.rows) != 0 {
		t.Errorf("another sample goes on with it: %+v, %v", other, err)
	}
	o.seed = 0
	if err := os.WriteFile(o.table+partSuffix, []byte(first.head+"fix\tshort\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := openDuels(o, "tree"); err == nil {
		t.Error("a damaged table was read")
	}
}

func TestQuantiles(t *testing.T) {
	list := []float64{5, 1, 3, 2, 4}
	for q, want := range map[float64]float64{0: 1, 0.5: 3, 0.9: 5, 1: 5} {
		if got := quantile(slices.Clone(list), q); got != want {
			t.Errorf("%g: %g, want %g", q, got, want)
		}
	}
	low, high := bootstrap([]float64{0.5, 0.5, 0.5})
	if low != 0.5 || high != 0.5 {
		t.Errorf("of equal values: %g to %g", low, high)
	}
	var many []float64
	for i := range 400 {
		many = append(many, float64(i))
	}
	if low, high = bootstrap(many); !(low < 200 && 200 < high) || high-low > 80 || math.IsNaN(low) {
		t.Errorf("the median of 0 to 399 lies in %g to %g", low, high)
	}
}

func TestWriteBetween(t *testing.T) {
	p := filepath.Join(t.TempDir(), "d.md")
	for text, want := range map[string]string{
		"a\n<b>\nold\n<e>\nz\n": "a\n<b>\n\nnew\n\n<e>\nz\n",
		"a\n<b>\nold\n":         "",
		"a\nold\n<e>\n":         "",
	} {
		if err := os.WriteFile(p, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		err := writeBetween(p, "<b>", "<e>", "new\n")
		got, _ := os.ReadFile(p)
		if want == "" && (err == nil || string(got) != text) || want != "" && (err != nil || string(got) != want) {
			t.Errorf("%q: %q, %v", text, got, err)
		}
	}
}
