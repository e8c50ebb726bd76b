// SPDX-License-Identifier: Apache-2.0

package probation

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lupatch/lupatch/kpatch"
)

var rewrite = flag.Bool("update", false, "write the golden files")

// records reads a file of records; comments begin with "#".
func records(t testing.TB, b []byte) (list []kpatch.Record) {
	t.Helper()
	for line := range strings.Lines(string(b)) {
		line = strings.TrimSuffix(line, "\n")
		if line == "" || line[0] == '#' {
			continue
		}
		r, err := kpatch.ParseRecord(line)
		if err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		list = append(list, r)
	}
	return list
}

// parse feeds records as if they were read when they were printed. What the
// programs wrote, "== NAME", stands between the reports.
func parse(list []kpatch.Record, each func(*Report), mark func(string)) {
	var p parser
	var now time.Time
	all := func(list []*Report) {
		for _, r := range list {
			each(r)
		}
	}
	for _, r := range list {
		now = time.Unix(0, 0).Add(r.Time)
		all(p.expire(now, false))
		if r.Facility != 0 {
			mark(r.Text)
		}
		all(p.add(r, now))
	}
	all(p.expire(now, true))
}

func describe(r *Report) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s\n  cpu %d, %d lines", r.Kind, r, r.CPU, len(r.Lines))
	if r.Mixed {
		b.WriteString(", mixed")
	}
	b.WriteString("\n")
	for _, f := range r.Stack {
		mark := "    "
		if f.Interrupted {
			mark = "  i "
		}
		if f.Unreliable {
			mark += "? "
		}
		b.WriteString(mark + f.String() + "\n")
	}
	return b.String()
}

// The .kmsg files of kernels are what those printed when the module lufault of
// internal/live did what stands in the lines "== NAME"; the others are made by
// hand, of what these kernels are not built for.
func TestParse(t *testing.T) {
	files, err := filepath.Glob("testdata/*.kmsg")
	if err != nil || len(files) < 3 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".kmsg"), func(t *testing.T) {
			b, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var got bytes.Buffer
			parse(records(t, b), func(r *Report) { got.WriteString(describe(r)) }, func(m string) { got.WriteString(m + "\n") })
			golden := strings.TrimSuffix(file, ".kmsg") + ".golden"
			if *rewrite {
				if err := os.WriteFile(golden, got.Bytes(), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(string(want), got.String()); d != "" {
				t.Fatal(d)
			}
		})
	}
}

// Every fault that the module makes is one report, of the right kind and place,
// on every kernel; and what programs write is none.
func TestEveryFault(t *testing.T) {
	want := map[string]string{
		"warn": "warning fault_warn", "warn_bare": "warning fault_warn_bare", "refcount": "refcount fault_refcount", "interrupt": "warning fault_timer_fn",
		"wait": "hung-task fault_wait", "atomic": "atomic-context fault_atomic", "list": "list-corruption fault_list", "null": "oops fault_null",
		"call": "oops fault_call", "wild": "protection-fault fault_wild", "bug": "bug fault_bug", "divide": "oops fault_divide",
	}
	for _, file := range []string{"6.1.0-47-amd64", "6.12.95+deb12-amd64"} {
		b, err := os.ReadFile("testdata/" + file + ".kmsg")
		if err != nil {
			t.Fatal(err)
		}
		found := map[string]string{}
		stalls := 0
		var doing string
		parse(records(t, b), func(r *Report) {
			what := string(r.Kind)
			for _, f := range append([]Frame{{}}, r.Stack...) {
				if f == (Frame{}) && r.Function != nil {
					f = *r.Function
				}
				if f.Module == "lufault" && !f.Unreliable {
					what += " " + f.Function
					break
				}
			}
			if doing == "spin" && (what == "soft-lockup fault_spin" || what == "rcu-stall fault_spin") {
				stalls++
			}
			if found[doing] == "" {
				found[doing] = what
			}
		}, func(m string) { doing = strings.TrimPrefix(m, "== ") })
		if stalls != 2 {
			t.Errorf("%s: %d reports of lockups and stalls", file, stalls)
		}
		delete(found, "spin")
		if d := cmp.Diff(want, found); d != "" {
			t.Errorf("%s: %s", file, d)
		}
	}
	forged := []kpatch.Record{{Facility: 1, Text: "BUG: kernel NULL pointer dereference, address: 0"}, {Facility: 1, Text: "Oops: 0002 [#1]"}}
	parse(forged, func(r *Report) { t.Errorf("a process made %s", r) }, func(string) {})
}

// Where the log says who prints, the lines of two CPUs come apart again.
func TestInterleaved(t *testing.T) {
	b, err := os.ReadFile("testdata/6.1.0-47-amd64.kmsg")
	if err != nil {
		t.Fatal(err)
	}
	var one, two []kpatch.Record
	into := &one
	for _, r := range records(t, b) {
		switch r.Text {
		case "== warn":
			into = &one
		case "== refcount":
			into = &two
		case "== warn_bare", "== interrupt":
			into = nil
		}
		if into != nil && r.Facility == 0 {
			*into = append(*into, r)
		}
	}
	reports := func(list []kpatch.Record) (out []string) {
		parse(list, func(r *Report) { out = append(out, describe(r)) }, func(string) {})
		return out
	}
	alone := append(reports(one), reports(two)...)
	zip := func(callers bool) (list []kpatch.Record) {
		for i := range max(len(one), len(two)) {
			for n, from := range [][]kpatch.Record{one, two} {
				if i < len(from) {
					r := from[i]
					r.Time = time.Second
					if callers {
						r.Caller = fmt.Sprintf("T%d", n)
					}
					list = append(list, r)
				}
			}
		}
		return list
	}
	apart := reports(zip(true))
	slices.Sort(alone)
	slices.Sort(apart)
	if d := cmp.Diff(alone, apart); d != "" {
		t.Error(d)
	}
	// Without that nothing is lost, and it is said.
	mixed := reports(zip(false))
	text := strings.Join(mixed, "")
	if strings.Count(text, ", mixed\n") != len(mixed) {
		t.Errorf("not marked as mixed: %s", text)
	}
	for _, frame := range []string{"    fault_set [lufault]\n", "    fault_refcount [lufault]\n"} {
		if !strings.Contains(text, frame) {
			t.Errorf("%q is lost: %s", frame, text)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"------------[ cut here ]------------\nWARNING: CPU: 1 PID: 9 at f.c:3 f+0x1/0x2 [m]\nCall Trace:\n <IRQ>\n ? g+0x1/0x2\n </IRQ>\n---[ end trace 0 ]---", "INFO: task a:b:1 blocked for more than 9 seconds."} {
		f.Add(s, "T1", "C0")
	}
	f.Fuzz(func(t *testing.T, text, a, b string) {
		var p parser
		for i, line := range strings.Split(text, "\n") {
			for _, r := range p.add(kpatch.Record{Text: line, Caller: []string{a, b}[i%2]}, time.Unix(int64(i), 0)) {
				if r.Kind == "" || r.Title == "" || len(r.Lines) == 0 || len(r.Lines) > linesMax {
					t.Fatalf("%+v", r)
				}
			}
		}
		if p.expire(time.Time{}, true); len(p.open) != 0 {
			t.Fatal("reports are left")
		}
	})
}
