// SPDX-License-Identifier: Apache-2.0

package patchgen_test

import (
	"bytes"
	"flag"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/lupatch/lupatch/internal/elfobj"
	"github.com/lupatch/lupatch/internal/refuse"
	"github.com/lupatch/lupatch/patchgen"
	"github.com/rogpeppe/go-internal/diff"
	"github.com/rogpeppe/go-internal/txtar"
)

var update = flag.Bool("update", false, "write the results found as those wanted")

// kernelFlags are those of a kernel build that shape what patchgen sees, with
// the sections that lupatch adds.
var kernelFlags = strings.Fields(`-O2 -g -std=gnu11 -mcmodel=kernel -fno-pic -mno-red-zone -fno-asynchronous-unwind-tables
	-fcf-protection=none -fno-strict-aliasing -fno-stack-protector -fno-jump-tables -fno-common
	-pg -mfentry -mrecord-mcount -ffunction-sections -fdata-sections -fno-optimize-sibling-calls`)

// TestGolden runs every case of testdata: two versions of a file, what the
// kernel has, and what has to come out. Each is named after what it is about.
func TestGolden(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) < 30 {
		t.Fatalf("%d cases found, %v", len(files), err)
	}
	for _, path := range files {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txtar"), func(t *testing.T) {
			t.Parallel()
			golden(t, path)
		})
	}
}

func golden(t *testing.T, path string) {
	ar, err := txtar.ParseFile(path)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string][]byte{}
	for _, f := range ar.Files {
		files[f.Name] = f.Data
	}
	k := parseKernel(t, string(files["kernel"]))
	got := generate(t, files, k)
	if *update {
		for i, f := range ar.Files {
			if f.Name == "want" {
				ar.Files[i].Data = []byte(got)
			}
		}
		if err := os.WriteFile(path, txtar.Format(ar), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if d := cmp.Diff(string(files["want"]), got); d != "" {
		t.Errorf("-want +got\n%s", d)
	}
}

func generate(t *testing.T, files map[string][]byte, k *fakeKernel) string {
	dir := t.TempDir()
	old, oldBytes := compile(t, dir, files["old.c"], k.cflags)
	new, newBytes := compile(t, dir, files["new.c"], k.cflags)
	if err := patchgen.CheckLayouts(oldBytes, newBytes); err != nil {
		return refusal(t, err)
	}
	ext, err := patchgen.ReadExtents(oldBytes, "unit.c")
	if err != nil {
		t.Fatal(err)
	}
	in := patchgen.Input{
		Unit: k.unit, Old: old, New: new, Sizes: patchgen.DefaultSizes(), Lines: lineMap(files["old.c"], files["new.c"]),
		OldLines: ext, LateObjtool: k.late, Kernel: k, Provided: k.provided, LinkNames: k.links, AliasPrefix: "alias_",
		NewObject: newBytes, Data: k.data, Moved: k.moved,
	}
	if src := files["inforce.c"]; src != nil {
		f, b := compile(t, dir, src, k.cflags)
		in.Stacked = &patchgen.Stacked{InForce: f, Lines: lineMap(src, files["new.c"]), All: k.cumulative}
		if in.Stacked.OldLines, err = patchgen.ReadExtents(b, "unit.c"); err != nil {
			t.Fatal(err)
		}
	}
	res, err := patchgen.Generate(in)
	if err != nil {
		if res != nil {
			t.Error("a refusal came with a result")
		}
		return refusal(t, err)
	}
	out := describe(res)
	if !res.Empty() {
		linkable(t, dir, res)
	}
	return out
}

func refusal(t *testing.T, err error) string {
	e, ok := refuse.As(err)
	if !ok {
		t.Fatalf("not a refusal: %v", err)
	}
	return fmt.Sprintf("refuse %s at %s\n", e.ID, e.Where)
}

// linkable lets the linker judge the object.
func linkable(t *testing.T, dir string, res *patchgen.Result) {
	b, err := res.Object.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	o := filepath.Join(dir, "out.o")
	if err := os.WriteFile(o, b, 0o644); err != nil {
		t.Fatal(err)
	}
	if msg, err := exec.Command("ld", "-r", "-o", o+".linked", o).CombinedOutput(); err != nil || len(msg) > 0 {
		t.Errorf("ld -r: %v\n%s", err, msg)
	}
}

func compile(t *testing.T, dir string, src []byte, extra []string) (*elfobj.File, []byte) {
	t.Helper()
	c, o := filepath.Join(dir, "unit.c"), filepath.Join(dir, "unit.o")
	if err := os.WriteFile(c, src, 0o644); err != nil {
		t.Fatal(err)
	}
	args := slices.Concat(kernelFlags, extra, []string{"-I", "testdata", "-c", "-o", o, c})
	if out, err := exec.Command("gcc", args...).CombinedOutput(); err != nil {
		t.Fatalf("gcc: %v\n%s", err, out)
	}
	b, err := os.ReadFile(o)
	if err != nil {
		t.Fatal(err)
	}
	f, err := elfobj.Read(b)
	if err != nil {
		t.Fatal(err)
	}
	return f, b
}

// lineMap compares the versions line by line.
func lineMap(old, new []byte) *patchgen.LineMap {
	m := &patchgen.LineMap{}
	o, n := 0, 0
	text := string(diff.Diff("a", old, "b", new))
	for _, l := range strings.SplitAfter(text, "\n") {
		switch {
		case strings.HasPrefix(l, "@@"):
			fmt.Sscanf(l, "@@ -%d", &o)
			i := strings.Index(l, "+")
			fmt.Sscanf(l[i:], "+%d", &n)
		case o == 0 || l == "":
		case l[0] == '-':
			m.Hunks = append(m.Hunks, patchgen.LineHunk{OldStart: o, OldLines: 1, NewStart: n})
			o++
		case l[0] == '+':
			m.Hunks = append(m.Hunks, patchgen.LineHunk{OldStart: o, NewStart: n, NewLines: 1})
			n++
		default:
			o, n = o+1, n+1
		}
	}
	return m
}

// copySuffix is behind the names of copies that take the place of functions.
const copySuffix = ".copy"

// describe writes a result as text.
func describe(r *patchgen.Result) string {
	var b strings.Builder
	for _, f := range r.Functions {
		verb := "redirect"
		if f.New {
			verb = "new"
		}
		fmt.Fprintf(&b, "%s %s", verb, f.Name)
		if f.ProbeOnly {
			b.WriteString(" (probe)")
		}
		if f.InitOnly {
			b.WriteString(" (init)")
		}
		for _, d := range f.Drivers {
			b.WriteString(" (driver " + d + ")")
		}
		for _, p := range f.Params {
			b.WriteString(" (sets " + p + ")")
		}
		b.WriteString(behind(r, f.NewName) + "\n")
	}
	for _, n := range r.Untraced {
		fmt.Fprintf(&b, "untraced %s\n", n)
	}
	for _, l := range r.Late {
		fmt.Fprintf(&b, "late key in %s\n", l.Where)
	}
	for _, s := range r.AlreadyRan {
		fmt.Fprintf(&b, "already ran %s\n", s)
	}
	for _, c := range r.Data {
		fmt.Fprintf(&b, "%s %s, read-only %v, parts %v\n", c.Action, strings.Join(c.What, ", "), c.ReadOnly, c.Parts)
		if c.Param != "" {
			fmt.Fprintf(&b, "is parameter %s\n", c.Param)
		}
	}
	for _, c := range r.Callbacks {
		fmt.Fprintf(&b, "callback %s %s%s\n", c.Kind, c.Name, behind(r, c.Alias))
	}
	if r.Empty() {
		b.WriteString("no object\n")
		return b.String()
	}
	var refs []string
	for ref := range r.Refs {
		if ref.Exported {
			refs = append(refs, "export "+ref.Symbol)
		} else {
			refs = append(refs, fmt.Sprintf("klp %s:%s,%d", ref.Object, ref.Symbol, ref.Sympos))
		}
	}
	slices.Sort(refs)
	for _, s := range refs {
		if s != "export __fentry__" {
			b.WriteString(s + "\n")
		}
	}
	for _, y := range r.Object.Symbols {
		if strings.HasSuffix(y.Name, copySuffix) && y.Section != nil {
			fmt.Fprintf(&b, "provides %s\n", y.Name)
		} else if strings.HasSuffix(y.Name, copySuffix) {
			fmt.Fprintf(&b, "calls %s\n", y.Name)
		}
	}
	secs := map[string]int{}
	for _, s := range r.Object.Sections {
		if strings.HasPrefix(s.Name, ".text.") || strings.Contains(s.Name, ".str") {
			continue
		}
		secs[s.Name] += int(s.Size)
	}
	for _, n := range slices.Sorted(maps.Keys(secs)) {
		fmt.Fprintf(&b, "section %s %d\n", n, secs[n])
	}
	for _, ns := range r.Namespaces {
		b.WriteString("import " + ns + "\n")
	}
	for _, s := range r.InForce {
		b.WriteString("in force " + s + "\n")
	}
	for _, s := range slices.Concat(r.Escapes, r.Review) {
		b.WriteString("note " + s + "\n")
	}
	for _, p := range r.Concurrency {
		fmt.Fprintf(&b, "concurrency of %s: %s: %s\n", p.Function, p.Kind, p.Changes())
	}
	return b.String()
}

// behind says how much room there is before a function, if there is any.
func behind(r *patchgen.Result, name string) string {
	if n := room(r, name); n != 0 {
		return fmt.Sprintf(" (behind %d bytes)", n)
	}
	return ""
}

// room is the number of bytes before a function in its section; they have to be
// NOPs.
func room(r *patchgen.Result, name string) int {
	if r.Empty() {
		return 0
	}
	for _, y := range r.Object.Symbols {
		if y.Name == name && y.Section != nil && bytes.Count(y.Section.Data[:y.Value], []byte{0x90}) == int(y.Value) {
			return int(y.Value)
		}
	}
	return 0
}

// fakeKernel is what a case says the kernel has: "unit NAME", "cflags …",
// "export OWNER SYMBOL [NAMESPACE]", "data VARIABLE ACTION" (* for all), "pos SYMBOL N", "missing SYMBOL",
// "cumulative", "provided SYMBOL [UNIT|twice]" (UNIT has it), "move SYMBOL" and "instead SYMBOL" (a copy takes its
// place that this or another unit has), "link SYMBOL NAME", "sealed SYMBOL", and "late" if it runs
// objtool on what is linked.
// Every other symbol is a unique one of the unit.
type fakeKernel struct {
	unit     string
	cflags   []string
	exports  map[string]string
	pos      map[string]int
	missing  map[string]bool
	data     []patchgen.DataRule
	spaces   map[string]string // of exports
	provided map[string]patchgen.Provided
	links    map[string]string
	sealed   map[string]bool
	moved    []string
	late     bool
	// cumulative is for a case that has a version in force, in inforce.c
	cumulative bool
}

func parseKernel(t *testing.T, text string) *fakeKernel {
	k := &fakeKernel{unit: patchgen.VMLinux, exports: map[string]string{"__fentry__": patchgen.VMLinux}, pos: map[string]int{}, missing: map[string]bool{}, spaces: map[string]string{}, provided: map[string]patchgen.Provided{}, links: map[string]string{}, sealed: map[string]bool{}}
	for _, l := range strings.Split(text, "\n") {
		f := strings.Fields(l)
		if len(f) == 0 {
			continue
		}
		switch f[0] {
		case "unit":
			k.unit = f[1]
		case "cflags":
			k.cflags = f[1:]
		case "export":
			k.exports[f[2]] = f[1]
			if len(f) > 3 {
				k.spaces[f[2]] = f[3]
			}
		case "pos":
			n, err := strconv.Atoi(f[2])
			if err != nil {
				t.Fatal(err)
			}
			k.pos[f[1]] = n
		case "missing":
			k.missing[f[1]] = true
		case "data":
			k.data = append(k.data, patchgen.DataRule{Name: strings.Trim(f[1], "*"), Action: patchgen.DataAction(f[2])})
		case "provided":
			p := patchgen.Provided{Link: f[1]}
			if len(f) > 2 && f[2] == "twice" {
				p = patchgen.Provided{Err: refuse.New(refuse.AmbiguousSymbol, f[1], "two have it")}
			} else if len(f) > 2 {
				p = patchgen.Provided{Ref: &patchgen.Ref{Object: f[2], Symbol: f[1], Sympos: 3}}
			}
			k.provided[f[1]] = p
		case "instead":
			k.provided[f[1]] = patchgen.Provided{Link: f[1] + copySuffix, Instead: true}
		case "move":
			k.moved, k.links[f[1]] = append(k.moved, f[1]), f[1]+copySuffix
		case "link":
			k.links[f[1]] = f[2]
		case "sealed":
			k.sealed[f[1]] = true
		case "late":
			k.late = true
		case "cumulative":
			k.cumulative = true
		default:
			t.Fatalf("kernel: %q", l)
		}
	}
	return k
}

func (k *fakeKernel) Exported(name string) (string, string, bool) {
	o, ok := k.exports[name]
	return o, k.spaces[name], ok
}

func (k *fakeKernel) Callable(r patchgen.Ref) bool { return !k.sealed[r.Symbol] }

func (k *fakeKernel) Locate(name string, local bool) (patchgen.Ref, error) {
	if k.missing[name] {
		return patchgen.Ref{}, refuse.New(refuse.UnresolvedSymbol, name, "missing")
	}
	return patchgen.Ref{Object: k.unit, Symbol: name, Sympos: k.pos[name]}, nil
}

// TestDeterministic: the same input gives the same bytes.
func TestDeterministic(t *testing.T) {
	ar, err := txtar.ParseFile("testdata/body-change.txtar")
	if err != nil {
		t.Fatal(err)
	}
	var first []byte
	for range 5 {
		dir := t.TempDir()
		old, _ := compile(t, dir, ar.Files[0].Data, nil)
		new, _ := compile(t, dir, ar.Files[1].Data, nil)
		res, err := patchgen.Generate(patchgen.Input{Unit: "m", Old: old, New: new, Sizes: patchgen.DefaultSizes(), Kernel: parseKernel(t, ""), AliasPrefix: "a"})
		if err != nil {
			t.Fatal(err)
		}
		b, err := res.Object.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		if first == nil {
			first = b
		}
		if !bytes.Equal(first, b) {
			t.Fatal("two runs gave different bytes")
		}
	}
}
