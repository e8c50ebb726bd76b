// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/renameio/v2"
	pretty "github.com/jedib0t/go-pretty/v6/table"
)

const (
	beginMark = "<!-- begin: make evidence-corpus writes from here -->"
	endMark   = "<!-- end: make evidence-corpus -->"
)

// report writes the tables about the chosen fixes into the document, or prints
// them.
func (t *table) report(o options, fixes []*fix) error {
	var rows []*row
	t.single = map[string]bool{}
	for _, f := range fixes {
		t.single[f.name] = len(f.files) == 1
		if r := t.rows[f.name]; r != nil {
			rows = append(rows, r)
		}
	}
	text := t.markdown(rows, len(fixes))
	if o.labels != "" {
		labels, err := readLabels(o.labels)
		if err != nil {
			return err
		}
		text += labels.against(t.rows)
	}
	return writeBetween(o.report, beginMark, endMark, text)
}

// writeBetween replaces what stands between two lines of a document; without a
// document it prints the text.
func writeBetween(path, begin, end, text string) error {
	if path == "" {
		fmt.Print(text)
		return nil
	}
	doc, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	head, rest, ok := bytes.Cut(doc, []byte(begin))
	_, tail, ok2 := bytes.Cut(rest, []byte(end))
	if !ok || !ok2 {
		return fmt.Errorf("%s lacks the lines %q and %q", path, begin, end)
	}
	out := slices.Concat(head, []byte(begin+"\n\n"+strings.TrimSuffix(text, "\n")+"\n\n"+end), tail)
	return renameio.WriteFile(path, out, 0o644)
}

func (t *table) markdown(rows []*row, wanted int) string {
	var b strings.Builder
	compiled := slices.DeleteFunc(slices.Clone(rows), func(r *row) bool { return r.outcome == outcomeNotCompiled })
	fmt.Fprintf(&b, "Kernel %s, lupatch tree %s, %s; %d of %d fixes measured, %d of them compile by plain kbuild.\n\n",
		t.release, trees(rows), time.Now().UTC().Format("2006-01-02"), len(rows), wanted, len(compiled))
	outcomes := count(compiled, func(r *row) string { return r.outcome })
	w := pretty.NewWriter()
	w.AppendHeader(pretty.Row{"of the fixes that compile", "number", "share"})
	for _, k := range []string{outcomeLoaded, outcomeBuilt, outcomeRefused, outcomeFailed} {
		if outcomes[k] > 0 {
			w.AppendRow(pretty.Row{k, outcomes[k], share(outcomes[k], len(compiled))})
		}
	}
	fmt.Fprintf(&b, "%s\n\n", w.RenderMarkdown())
	section(&b, "Refused, by reason", only(compiled, outcomeRefused), func(r *row) string { return "`" + r.reason + "`" })
	section(&b, "Failed, by reason", only(compiled, outcomeFailed), func(r *row) string { return r.reason })
	section(&b, "Not compiled by plain kbuild, by reason", only(rows, outcomeNotCompiled), func(r *row) string { return r.reason })
	section(&b, "When what is loaded takes effect", only(compiled, outcomeLoaded, outcomeBuilt), func(r *row) string { return r.effect })
	section(&b, "The module to patch, on a host without its hardware", only(compiled, outcomeLoaded), func(r *row) string {
		word, _, _ := strings.Cut(r.target, ":")
		return word
	})
	asked := slices.DeleteFunc(slices.Clone(compiled), func(r *row) bool { return r.word == "" })
	section(&b, "Refused as `data-changed`, and built with `--data VARIABLE=write@pre` as the refusal proposes", asked, func(r *row) string { return r.word })
	section(&b, "The oracle on what is built", only(compiled, outcomeLoaded, outcomeBuilt), func(r *row) string {
		switch {
		case r.oracle == "equal":
			return "the same functions"
		case strings.Contains(r.oracle, "missing:"), strings.Contains(r.oracle, "extra:"):
			return "unexplained difference"
		case strings.Contains(r.oracle, "to call a copy"), strings.Contains(r.oracle, "carried copy"):
			return "others besides: copies that the update carries, and their callers"
		case strings.Contains(r.oracle, "section flags"):
			return "others besides, which differ under the flags that lupatch compares with"
		}
		return "fewer by those that differ only in line numbers"
	})
	b.WriteString(cross("By area", compiled, func(r *row) string { return r.area }))
	b.WriteString(cross("By class of the change", compiled, func(r *row) string { return r.class }))
	if s := seconds(compiled, t.single); len(s) > 0 {
		fmt.Fprintf(&b, "Time to build an update of a fix to one file, two builds at a time: median %.1f s, nine in ten below %.1f s, longest %.1f s (%d builds).\n",
			s[len(s)/2], s[len(s)*9/10], s[len(s)-1], len(s))
	}
	return b.String()
}

func trees(rows []*row) string {
	all := slices.Sorted(maps.Keys(count(rows, func(r *row) string { return r.tree })))
	return strings.Join(all, ", ")
}

func only(rows []*row, outcomes ...string) (out []*row) {
	for _, r := range rows {
		if slices.Contains(outcomes, r.outcome) {
			out = append(out, r)
		}
	}
	return out
}

func count[R any](rows []R, by func(R) string) map[string]int {
	out := map[string]int{}
	for _, r := range rows {
		out[by(r)]++
	}
	return out
}

// byNumber orders keys by how often they occur.
func byNumber(counts map[string]int) []string {
	keys := slices.Sorted(maps.Keys(counts))
	slices.SortStableFunc(keys, func(a, b string) int { return cmp.Compare(counts[b], counts[a]) })
	return keys
}

func section[R any](b *strings.Builder, title string, rows []R, by func(R) string) {
	if len(rows) == 0 {
		return
	}
	w := pretty.NewWriter()
	w.AppendHeader(pretty.Row{title, "number"})
	counts := count(rows, by)
	for _, k := range byNumber(counts) {
		w.AppendRow(pretty.Row{k, counts[k]})
	}
	fmt.Fprintf(b, "%s\n\n", w.RenderMarkdown())
}

func cross(title string, rows []*row, by func(*row) string) string {
	w := pretty.NewWriter()
	w.AppendHeader(pretty.Row{title, "compile", "built and loaded", "refused", "failed", "share built"})
	all := count(rows, by)
	for _, k := range byNumber(all) {
		here := slices.DeleteFunc(slices.Clone(rows), func(r *row) bool { return by(r) != k })
		n := len(only(here, outcomeLoaded, outcomeBuilt))
		w.AppendRow(pretty.Row{k, all[k], n, len(only(here, outcomeRefused)), len(only(here, outcomeFailed)), share(n, all[k])})
	}
	return w.RenderMarkdown() + "\n\n"
}

func share(n, of int) string {
	if of == 0 {
		return "–"
	}
	return fmt.Sprintf("%.1f %%", 100*float64(n)/float64(of))
}

// seconds are the times of builds of updates whose fix changes one file.
func seconds(rows []*row, single map[string]bool) (out []float64) {
	for _, r := range only(rows, outcomeLoaded, outcomeBuilt) {
		if s, err := strconv.ParseFloat(r.seconds, 64); err == nil && single[r.fix] {
			out = append(out, s)
		}
	}
	slices.Sort(out)
	return out
}
