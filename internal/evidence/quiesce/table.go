// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/lupatch/lupatch/internal/evidence/record"
)

// columns of the table. Counts are of threads: all that there were; those seen in
// the functions right before the load; those that the transition waited for, at any
// look and at its first; those of whom both is true. Times are the guest's: the pass
// that predicted, the preparation of one, passes by BPF and by procfs beside it, the
// transition.
var columns = []string{"trial", "threads", "predicted", "waited", "first", "both", "bpf_ms", "open_ms", "bpf_later_ms", "procfs_ms", "transition_ms"}

// table is the file of results.
type table struct {
	*record.Table
	trials int
}

func openTable(path, tree string, o options) (*table, error) {
	head := fmt.Sprintf("kernel %s, %d tasks that stay up to %s, seed %d; written by make evidence-quiesce", o.release, o.tasks, o.longest, o.seed)
	t, err := record.Open(path, head, tree, columns...)
	if err != nil {
		return nil, err
	}
	t.Summary = func(rows [][]string) string { return trials(rows).summary() }
	return &table{t, o.trials}, nil
}

// missing lists the trials that are not there, or were made with another tree.
func (t *table) missing(n int) (out []int) {
	for i := 1; i <= n; i++ {
		if !t.Has(strconv.Itoa(i)) {
			out = append(out, i)
		}
	}
	return out
}

func (t *table) put(r *trial) error {
	ms := func(d time.Duration) string { return strconv.FormatFloat(float64(d)/1e6, 'f', 1, 64) }
	both := 0
	for tid := range r.predicted {
		if r.waited[tid] {
			both++
		}
	}
	fmt.Printf("trial %d of %d: %d predicted, %d waited for, %d both\n", r.number, t.trials, len(r.predicted), len(r.waited), both)
	return t.Put(strconv.Itoa(r.number), strconv.Itoa(r.tasks), strconv.Itoa(len(r.predicted)), strconv.Itoa(len(r.waited)), strconv.Itoa(len(r.first)), strconv.Itoa(both),
		ms(r.pass), ms(r.look.Open), ms(r.look.BPF), ms(r.look.Procfs), ms(r.transition))
}

func (t *table) all() trials { return trials(t.Rows()) }

// trials are rows of the table.
type trials [][]string

func (t trials) column(name string) (out []float64) {
	i := slices.Index(columns, name)
	for _, r := range t {
		v, err := strconv.ParseFloat(r[i], 64)
		if err == nil {
			out = append(out, v)
		}
	}
	return out
}

// rates are of all trials together.
func (t trials) rates() (precision, recall float64) {
	sum := func(name string) (s float64) {
		for _, v := range t.column(name) {
			s += v
		}
		return s
	}
	return sum("both") / sum("predicted"), sum("both") / sum("waited")
}

func (t trials) summary() string {
	if len(t) == 0 {
		return "no trials\n"
	}
	precision, recall := t.rates()
	lowest := 1.0
	both, waited := t.column("both"), t.column("waited")
	for i := range both {
		if waited[i] > 0 {
			lowest = min(lowest, both[i]/waited[i])
		}
	}
	s := fmt.Sprintf("%d trials: precision %.3f, recall %.3f (lowest of a trial %.3f)\n", len(t), precision, recall, lowest)
	for _, c := range []string{"threads", "waited", "bpf_ms", "procfs_ms", "open_ms", "transition_ms"} {
		v := t.column(c)
		slices.Sort(v)
		s += fmt.Sprintf("%s: median %.1f, highest %.1f\n", c, v[len(v)/2], v[len(v)-1])
	}
	return s
}
