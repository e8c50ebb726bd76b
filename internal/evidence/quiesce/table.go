// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/renameio/v2"
)

// columns of the table. Counts are of threads: all that there were; those seen in
// the functions right before the load; those that the transition waited for, at any
// look and at its first; those of whom both is true. Times are the guest's: the pass
// that predicted, the preparation of one, passes by BPF and by procfs beside it, the
// transition.
var columns = []string{"trial", "threads", "predicted", "waited", "first", "both", "bpf_ms", "open_ms", "bpf_later_ms", "procfs_ms", "transition_ms", "tree", "date"}

// table is the file of results, written anew after each trial.
type table struct {
	path, tree string
	o          options
	rows       map[int][]string
}

func openTable(path, tree string, o options) (*table, error) {
	t := &table{path: path, tree: tree, o: o, rows: map[int][]string{}}
	b, err := os.ReadFile(path)
	if os.IsNotExist(err) {
		return t, nil
	}
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(b)) {
		cells := strings.Split(strings.TrimRight(line, "\n"), "\t")
		n, err := strconv.Atoi(cells[0])
		if err != nil {
			continue // a comment, or the head
		}
		if len(cells) != len(columns) {
			return nil, fmt.Errorf("reading %s: trial %d has %d columns, not %d", path, n, len(cells), len(columns))
		}
		t.rows[n] = cells
	}
	return t, nil
}

// missing lists the trials that are not there, or were made with another tree.
func (t *table) missing(n int) (out []int) {
	for i := 1; i <= n; i++ {
		if r := t.rows[i]; r == nil || r[len(r)-2] != t.tree {
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
	t.rows[r.number] = []string{strconv.Itoa(r.number), strconv.Itoa(r.tasks), strconv.Itoa(len(r.predicted)), strconv.Itoa(len(r.waited)), strconv.Itoa(len(r.first)), strconv.Itoa(both),
		ms(r.pass), ms(r.look.Open), ms(r.look.BPF), ms(r.look.Procfs), ms(r.transition), t.tree, time.Now().UTC().Format("2006-01-02")}
	fmt.Printf("trial %d of %d: %d predicted, %d waited for, %d both\n", r.number, t.o.trials, len(r.predicted), len(r.waited), both)
	return t.write()
}

func (t *table) write() error {
	var b bytes.Buffer
	fmt.Fprintf(&b, "# SPDX-License-Identifier: Apache-2.0\n# kernel %s, %d tasks that stay up to %s, seed %d; written by make evidence-quiesce\n", t.o.release, t.o.tasks, t.o.longest, t.o.seed)
	for line := range strings.Lines(t.summary()) {
		fmt.Fprintf(&b, "# %s", line)
	}
	fmt.Fprintln(&b, strings.Join(columns, "\t"))
	for _, n := range t.numbers() {
		fmt.Fprintln(&b, strings.Join(t.rows[n], "\t"))
	}
	return renameio.WriteFile(t.path, b.Bytes(), 0o644)
}

func (t *table) numbers() (out []int) {
	for n := range t.rows {
		out = append(out, n)
	}
	slices.Sort(out)
	return out
}

func (t *table) column(name string) (out []float64) {
	i := slices.Index(columns, name)
	for _, n := range t.numbers() {
		v, err := strconv.ParseFloat(t.rows[n][i], 64)
		if err == nil {
			out = append(out, v)
		}
	}
	return out
}

// rates are of all trials together.
func (t *table) rates() (precision, recall float64) {
	sum := func(name string) (s float64) {
		for _, v := range t.column(name) {
			s += v
		}
		return s
	}
	return sum("both") / sum("predicted"), sum("both") / sum("waited")
}

func (t *table) summary() string {
	if len(t.rows) == 0 {
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
	s := fmt.Sprintf("%d trials: precision %.3f, recall %.3f (lowest of a trial %.3f)\n", len(t.rows), precision, recall, lowest)
	for _, c := range []string{"threads", "waited", "bpf_ms", "procfs_ms", "open_ms", "transition_ms"} {
		v := t.column(c)
		slices.Sort(v)
		s += fmt.Sprintf("%s: median %.1f, highest %.1f\n", c, v[len(v)/2], v[len(v)-1])
	}
	return s
}
