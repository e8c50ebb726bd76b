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

// Verdicts on a pair.
const (
	verdictSame    = "same functions"
	verdictDiffer  = "different functions"
	verdictNothing = "both: nothing changed"
	verdictNeither = "both refuse"
	verdictOurs    = "only lupatch makes one"
	verdictTheirs  = "only kpatch makes one"
	verdictNone    = "one: nothing changed, the other refuses"
)

func verdictOf(ours, theirs side) string {
	switch {
	case ours.made && theirs.made && slices.Equal(ours.funcs, theirs.funcs):
		return verdictSame
	case ours.made && theirs.made:
		return verdictDiffer
	case ours.made:
		return verdictOurs
	case theirs.made:
		return verdictTheirs
	case ours.nothing && theirs.nothing:
		return verdictNothing
	case ours.nothing || theirs.nothing:
		return verdictNone
	}
	return verdictNeither
}

// reason explains one difference: that of a function, or of the whole pair.
type reason struct {
	class    class
	function string
	hand     string
}

// duel is one pair gone through by both programs.
type duel struct {
	fix, source  string
	ours, theirs side
	verdict      string
	why          []reason
	oracle       string // on what lupatch found; empty if both agree
}

var duelColumns = []string{"fix", "file", "ms", "kpatch ms", "ratio", "cpu ms", "kpatch cpu ms", "verdict", "functions", "kpatch functions", "why", "oracle", "lupatch says", "kpatch says"}

// duelRow is a line of the table.
type duelRow struct {
	cells []string
}

// cell gives the cell of a column; the column has to exist.
func (r duelRow) cell(column string) string { return r.cells[slices.Index(duelColumns, column)] }

func (r duelRow) number(column string) float64 {
	f, _ := strconv.ParseFloat(r.cell(column), 64)
	return f
}

func (r duelRow) verdict() string { return r.cell("verdict") }

// reasons reads the column "why" back.
func (r duelRow) reasons() (out []reason) {
	for part := range strings.SplitSeq(r.cell("why"), "; ") {
		if part == "" {
			continue
		}
		name, rest, _ := strings.Cut(part, ": ")
		c, hand, _ := strings.Cut(rest, " – ")
		out = append(out, reason{class(c), name, hand})
	}
	return out
}

func (d *duel) row() duelRow {
	var why []string
	for _, w := range d.why {
		name := w.function
		if name == "" {
			name = "*"
		}
		text := name + ": " + string(w.class)
		if w.hand != "" {
			text += " – " + w.hand
		}
		why = append(why, text)
	}
	a, b := ms(d.ours.took), ms(d.theirs.took)
	return duelRow{[]string{
		d.fix, d.source, fmt.Sprintf("%.2f", a), fmt.Sprintf("%.2f", b), fmt.Sprintf("%.3f", a/b),
		fmt.Sprintf("%.2f", ms(d.ours.cpu)), fmt.Sprintf("%.2f", ms(d.theirs.cpu)), d.verdict,
		strings.Join(d.ours.funcs, " "), strings.Join(d.theirs.funcs, " "), strings.Join(why, "; "), d.oracle,
		clean(strings.Join(d.ours.says, " / ")), clean(strings.Join(d.theirs.says, " / ")),
	}}
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// duels is the table of pairs. Until all are done it is kept beside its place,
// and the next run goes on with it; a run that is complete is not continued.
type duels struct {
	path, head string
	rows       []duelRow
	done       map[[2]string]bool
}

const partSuffix = ".part"

// openDuels goes on with what was measured of the same state of the source.
func openDuels(o options, tree string) (*duels, error) {
	t := &duels{path: o.table, done: map[[2]string]bool{}}
	t.head = fmt.Sprintf("# SPDX-License-Identifier: Apache-2.0\n# kernel %s, lupatch tree %s, n %d, seed %d, by make evidence-differ\n", o.release, tree, o.n, o.seed)
	b, err := os.ReadFile(o.table + partSuffix)
	if os.IsNotExist(err) {
		return t, nil
	}
	if err != nil {
		return nil, err
	}
	rest, ok := bytes.CutPrefix(b, []byte(t.head))
	if !ok {
		return t, nil
	}
	for l := range strings.Lines(string(rest)) {
		cells := strings.Split(strings.TrimSuffix(l, "\n"), "\t")
		if len(cells) != len(duelColumns) {
			return nil, fmt.Errorf("reading %s: a line has %d columns, not %d", o.table+partSuffix, len(cells), len(duelColumns))
		}
		if cells[0] != duelColumns[0] {
			t.add(duelRow{cells})
		}
	}
	return t, nil
}

func (t *duels) add(r duelRow) {
	t.rows = append(t.rows, r)
	t.done[[2]string{r.cells[0], r.cells[1]}] = true
}

func (t *duels) has(fix, source string) bool { return t.done[[2]string{fix, source}] }

func (t *duels) put(d *duel) error {
	t.add(d.row())
	return renameio.WriteFile(t.path+partSuffix, t.text(), 0o644)
}

func (t *duels) text() []byte {
	var b bytes.Buffer
	b.WriteString(t.head)
	fmt.Fprintln(&b, strings.Join(duelColumns, "\t"))
	for _, r := range t.rows {
		fmt.Fprintln(&b, strings.Join(r.cells, "\t"))
	}
	return b.Bytes()
}
