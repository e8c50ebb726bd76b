// SPDX-License-Identifier: Apache-2.0

package kbuild

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestScanIncludes(t *testing.T) {
	for _, c := range []struct {
		text string
		want []inclusion
	}{
		{"#include <linux/a.h>\n#include \"b.h\"\n", []inclusion{"<linux/a.h", "\"b.h"}},
		{" \t#  include\t<a.h> /* why */\n", []inclusion{"<a.h"}},
		{"/* first */ #include <a.h>\n/* one\n * two */ # /* three */ include /* four */ \"b.h\"\n", []inclusion{"<a.h", "\"b.h"}},
		{"#inc\\\nlude <a.h>\n#include \\\n\t<b.h>\n", []inclusion{"<b.h"}}, // nobody writes the first
		{"#if 0\n#include <a.h>\n#endif\n#include <a.h>\n", []inclusion{"<a.h"}},
		{"#include_next <a.h>\n", []inclusion{"*a.h"}},
		{"#include MACRO\n#include F(x)\n", []inclusion{"?MACRO", "?F"}},
		{"#define MACRO \"m.h\"\n#define PLAIN \"text\"\n#define F(x) \"f.h\"\n", []inclusion{"\"m.h", "=MACRO"}},
		{"#define TRACE_SYSTEM sys\n#define TRACE_INCLUDE_PATH ../../drivers/x\n#define TRACE_INCLUDE_FILE mine\n#include <trace/define_trace.h>", []inclusion{"<trace/define_trace.h", "@../../drivers/x/sys.h", "@../../drivers/x/mine.h"}},
		{"#undef TRACE_SYSTEM\n#define TRACE_SYSTEM irq\n", []inclusion{"@trace/events/irq.h"}},
		{"char *s = \"#include <a.h>\"; x #include <b.h>\n", nil},
		{"#include <a.h\n#include \"\"\n#include\n#", nil},
	} {
		if d := cmp.Diff(c.want, scanIncludes([]byte(c.text))); d != "" && len(c.want)+len(scanIncludes([]byte(c.text))) > 0 {
			t.Errorf("%q: %s", c.text, d)
		}
	}
}

// graphOf is the graph of the units of a source laid out in the test. Their
// command lines are those of smallTU.
func graphOf(t *testing.T, tr *Tree, units ...string) (*graph, *listing) {
	t.Helper()
	l := &listing{Commands: map[string]string{}, Sources: map[string]string{}, obj: tr.Obj}
	for _, u := range units {
		tu := smallTU(tr, u)
		words := slices.Insert(slices.Clone(tu.Compile), 1, "-D__KERNEL__", "-mcmodel=kernel", "-fno-pie")
		l.Commands[tu.Object] = strings.Join(words, " ")
		l.Sources[u] = tu.Object
	}
	tr.listings["."] = l
	g, err := tr.makeGraph(t.Context(), l, &inclusions{Files: map[string]*scanned{}})
	if err != nil {
		t.Fatal(err)
	}
	return g, l
}

func TestGraph(t *testing.T) {
	tr := smallTree(t)
	write(t, tr.Src, map[string]string{
		"c/own.c":               "#include \"both.h\"\n",
		"c/both.h":              "",
		"c/angle.c":             "#include <both.h>\n",
		"include/both.h":        "#include <deep/er.h>\n",
		"include/deep/er.h":     "#if NEVER\n#include \"er2.h\"\n#endif\n",
		"include/deep/er2.h":    "",
		"include/trace/all.h":   "#include TRACE_INCLUDE(TRACE_INCLUDE_FILE)\n",
		"d/t.c":                 "#include \"t.h\"\n",
		"d/t.h":                 "#define TRACE_SYSTEM none\n#define TRACE_INCLUDE_PATH ../../d\n#define TRACE_INCLUDE_FILE inner\n#include <trace/all.h>\n",
		"d/inner.h":             "",
		"e/computed.c":          "#include WHICH\n#include \"which.h\"\n",
		"e/which.h":             "#define WHICH \"chosen.h\"\n",
		"e/chosen.h":            "",
		"e/unclear.c":           "#include FROM(outside)\n",
		"e/other.c":             "#include \"../link/value.h\"\n",
		"arch/none/include/x.h": "",
	})
	g, _ := graphOf(t, tr, "a/one.c", "b/other.c", "c/own.c", "c/angle.c", "d/t.c", "e/computed.c", "e/unclear.c", "e/other.c")
	for h, want := range map[string]string{
		"a/value.h":             "a/one.o b/other.o e/other.o e/unclear.o", // by "..", and by a link
		"include/top.h":         "a/one.o e/unclear.o",
		"c/both.h":              "c/own.o e/unclear.o",
		"include/both.h":        "c/angle.o e/unclear.o",
		"include/deep/er2.h":    "c/angle.o e/unclear.o", // whatever the condition
		"d/inner.h":             "d/t.o e/unclear.o",
		"e/chosen.h":            "e/computed.o e/unclear.o",
		"e/computed.c":          "e/computed.o e/unclear.o",
		"arch/none/include/x.h": "", // nobody
		"none.h":                "",
	} {
		if got := strings.Join(g.readers([]string{filepath.Join(tr.Src, h)}), " "); got != want {
			t.Errorf("%s: %q, want %q", h, got, want)
		}
	}
	// Two files: who reads either.
	if got := g.readers([]string{tr.Src + "/c/both.h", tr.Src + "/include/both.h"}); len(got) != 3 {
		t.Errorf("%q", got)
	}
}

// What is kept of a file is looked at again if the file has another size or time.
func TestInclusionsKept(t *testing.T) {
	tr := smallTree(t)
	tr.key = "small"
	_, l := graphOf(t, tr, "a/one.c")
	kept := tr.readInclusions()
	if _, err := tr.makeGraph(t.Context(), l, kept); err != nil {
		t.Fatal(err)
	}
	tr.keepInclusions(kept)
	again := tr.readInclusions()
	if d := cmp.Diff(kept.Files, again.Files); d != "" || len(again.Files) != 5 {
		t.Fatalf("%d files; %s", len(again.Files), d)
	}
	if !again.name("value.h") || again.name("lue.h") || again.name("one.c") {
		t.Error("names of included files")
	}
	if _, err := tr.makeGraph(t.Context(), l, again); err != nil || again.changed {
		t.Errorf("%v, changed %t", err, again.changed)
	}
	write(t, tr.Src, map[string]string{"b/near.h": "#include \"../a/value.h\"\n#include \"inner/new.h\"\n", "b/inner/new.h": ""})
	g, err := tr.makeGraph(t.Context(), l, again)
	if err != nil || !again.changed {
		t.Fatalf("%v, changed %t", err, again.changed)
	}
	if got := g.readers([]string{tr.Src + "/b/inner/new.h"}); !slices.Equal(got, []string{"a/one.o"}) {
		t.Errorf("%q", got)
	}
	write(t, filepath.Dir(tr.inclusionsFile()), map[string]string{filepath.Base(tr.inclusionsFile()): "nonsense"})
	if k := tr.readInclusions(); len(k.Files) != 0 {
		t.Error("nonsense was read")
	}
}

func TestSearchPath(t *testing.T) {
	quote, dirs, first := searchPath(strings.Fields("gcc -I/a -I ./b -isystem /s -iquote q -idirafter /z -include /k.h -include c.h -Iinc -O2 -c -o x.o x.c"), "/w")
	got := strings.Join(quote, " ") + " | " + strings.Join(dirs, " ") + " | " + strings.Join(first, " ")
	if want := "/w/q | /a /w/./b /w/inc /s /z | /k.h /w/c.h"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}
