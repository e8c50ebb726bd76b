// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/google/renameio/v2"
	pretty "github.com/jedib0t/go-pretty/v6/table"

	"github.com/lupatch/lupatch/internal/evidence/objpair"
)

const (
	differBegin = "<!-- begin: make evidence-differ writes from here -->"
	differEnd   = "<!-- end: make evidence-differ -->"
)

// finish puts the table in its place and writes the report.
func (t *duels) finish(o options, fixes []*fix, all []*objpair.Fix) error {
	without := map[string]int{}
	for _, f := range all {
		if len(f.Pairs) == 0 {
			without[cmp.Or(f.Refused, "the same object")]++
		}
	}
	text := t.markdown(o, len(fixes), without)
	if err := renameio.WriteFile(t.path, t.text(), 0o644); err != nil {
		return err
	}
	if err := os.Remove(t.path + partSuffix); err != nil && !os.IsNotExist(err) {
		return err
	}
	return writeBetween(o.report, differBegin, differEnd, text)
}

func (t *duels) markdown(o options, fixes int, without map[string]int) string {
	var b strings.Builder
	var none []string
	for _, k := range byNumber(without) {
		none = append(none, fmt.Sprintf("%d %s", without[k], k))
	}
	tree := strings.TrimSuffix(strings.SplitN(t.head, "lupatch tree ", 2)[1], "\n")
	fmt.Fprintf(&b, "Kernel %s, lupatch tree %s, %s; %d object pairs of %d fixes; no pair: %s. %s\n\n", o.release,
		strings.SplitN(tree, ",", 2)[0], time.Now().UTC().Format("2006-01-02"), len(t.rows), fixes, cmp.Or(strings.Join(none, ", "), "none"), machineLoad())
	b.WriteString(t.speed())
	section(&b, "What both find", t.rows, duelRow.verdict)
	t.disagreements(&b)
	return b.String()
}

// machineLoad says how busy the machine is, which times depend on.
func machineLoad() string {
	b, err := os.ReadFile("/proc/loadavg")
	if c := strings.Fields(string(b)); err == nil && len(c) > 2 {
		return fmt.Sprintf("Load of the machine at the end of the run: %s over one minute, %s over fifteen.", c[0], c[2])
	}
	return ""
}

func (t *duels) speed() string {
	var ours, theirs, ratios, cpuOurs, cpuTheirs []float64
	sooner, total := 0, [2]float64{}
	for _, r := range t.rows {
		a, b := r.number("ms"), r.number("kpatch ms")
		ours, theirs, ratios = append(ours, a), append(theirs, b), append(ratios, a/b)
		cpuOurs, cpuTheirs = append(cpuOurs, r.number("cpu ms")), append(cpuTheirs, r.number("kpatch cpu ms"))
		total[0], total[1] = total[0]+a, total[1]+b
		if a < b {
			sooner++
		}
	}
	if len(ratios) == 0 {
		return ""
	}
	low, high := bootstrap(ratios)
	w := pretty.NewWriter()
	w.AppendHeader(pretty.Row{"ms a pair", "lupatch", "create-diff-object"})
	for _, q := range []struct {
		name string
		at   float64
	}{{"median", 0.5}, {"nine in ten below", 0.9}, {"longest", 1}} {
		w.AppendRow(pretty.Row{q.name, fmt.Sprintf("%.1f", quantile(ours, q.at)), fmt.Sprintf("%.1f", quantile(theirs, q.at))})
	}
	w.AppendRow(pretty.Row{"median of processor time, all threads", fmt.Sprintf("%.1f", quantile(cpuOurs, 0.5)), fmt.Sprintf("%.1f", quantile(cpuTheirs, 0.5))})
	w.AppendRow(pretty.Row{"all pairs", fmt.Sprintf("%.0f", total[0]), fmt.Sprintf("%.0f", total[1])})
	return fmt.Sprintf("%s\n\nThe ratio of the times, pair by pair: median %.2f (95 %% interval %.2f to %.2f), nine in ten below %.2f, highest %.2f. lupatch's finished sooner for %d of %d pairs.\n\n",
		w.RenderMarkdown(), quantile(ratios, 0.5), low, high, quantile(ratios, 0.9), quantile(ratios, 1), sooner, len(ratios))
}

// quantile sorts the list.
func quantile(list []float64, q float64) float64 {
	slices.Sort(list)
	return list[min(int(q*float64(len(list))), len(list)-1)]
}

// bootstrap gives the interval in which the median lies in 95 of 100 samples
// drawn anew from the list, with a fixed seed.
func bootstrap(list []float64) (low, high float64) {
	const draws = 2000
	rng := rand.New(rand.NewPCG(1, 0))
	medians := make([]float64, draws)
	sample := make([]float64, len(list))
	for i := range medians {
		for j := range sample {
			sample[j] = list[rng.IntN(len(list))]
		}
		medians[i] = quantile(sample, 0.5)
	}
	return quantile(medians, 0.025), quantile(medians, 0.975)
}

// disagreements counts the reasons and lists what was explained by hand or not
// at all.
func (t *duels) disagreements(b *strings.Builder) {
	functions, pairs := map[class]int{}, map[class]int{}
	var list, missing []string
	for _, r := range t.rows {
		seen := map[class]bool{}
		for _, w := range r.reasons() {
			functions[w.class]++
			if !seen[w.class] {
				seen[w.class] = true
				pairs[w.class]++
			}
			if w.class == classByHand || w.class == classMissed {
				what := r.verdict()
				if w.function != "*" {
					what = "`" + w.function + "`"
				}
				list = append(list, fmt.Sprintf("- %s, %s: %s", strings.TrimSuffix(r.cell("fix"), ".patch"), what, cmp.Or(w.hand, "not explained")))
			}
		}
		if m, ok := strings.CutPrefix(r.cell("oracle"), "missing: "); ok {
			missing = append(missing, fmt.Sprintf("%s (%s)", m, strings.TrimSuffix(r.cell("fix"), ".patch")))
		}
	}
	w := pretty.NewWriter()
	w.AppendHeader(pretty.Row{"Why they disagree", "pairs", "functions or refusals", ""})
	for _, c := range classText {
		if pairs[c.class] > 0 {
			w.AppendRow(pretty.Row{string(c.class), pairs[c.class], functions[c.class], c.text})
		}
	}
	if w.Length() > 0 {
		fmt.Fprintf(b, "%s\n\n", w.RenderMarkdown())
	}
	if len(list) > 0 {
		fmt.Fprintf(b, "%s\n\n", strings.Join(list, "\n"))
	}
	if len(missing) > 0 {
		fmt.Fprintf(b, "Of the pairs they disagree about, the oracle sees functions to differ that lupatch's result lacks: %s.\n", strings.Join(missing, "; "))
	} else {
		b.WriteString("Of the pairs they disagree about, the oracle sees no function to differ, but for numbers of lines, that lupatch's result lacks.\n")
	}
}
