// SPDX-License-Identifier: Apache-2.0

// Package record keeps the results of long runs: tables of tab-separated values
// with a heading, written anew after each row, so that a run that was interrupted
// goes on where it was.
package record

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"

	"github.com/google/renameio/v2"
)

// Table is a file of results. The first column tells the rows apart; the last two are
// the tree and the date of each.
type Table struct {
	// Summary, if not nil, gives lines for the heading out of all rows.
	Summary func(rows [][]string) string

	path, head string
	columns    []string
	tree       string

	mu   sync.Mutex
	keys []string
	rows map[string][]string
}

// Open reads the table at path, or begins one. head says what it is, which kernel it
// is about and which command makes it; columns are those before tree and date. Rows of
// other columns are an error: nothing is lost silently.
func Open(path, head, tree string, columns ...string) (*Table, error) {
	t := &Table{path: path, head: head, columns: append(columns, "tree", "date"), tree: tree, rows: map[string][]string{}}
	b, err := os.ReadFile(path)
	if os.IsNotExist(err) {
		return t, nil
	}
	if err != nil {
		return nil, err
	}
	s := bufio.NewScanner(bytes.NewReader(b))
	s.Buffer(nil, 1<<20)
	for n := 1; s.Scan(); n++ {
		line := s.Text()
		if line == "" || strings.HasPrefix(line, "#") || line == strings.Join(t.columns, "\t") {
			continue
		}
		cells := strings.Split(line, "\t")
		if len(cells) != len(t.columns) {
			return nil, fmt.Errorf("reading %s: line %d has %d columns, not %d", path, n, len(cells), len(t.columns))
		}
		if t.rows[cells[0]] == nil {
			t.keys = append(t.keys, cells[0])
		}
		t.rows[cells[0]] = cells
	}
	return t, s.Err()
}

// Has says whether a row was measured on the present tree.
func (t *Table) Has(key string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	r := t.rows[key]
	return r != nil && r[len(r)-2] == t.tree
}

// Row gives the cells of a row, without tree and date; nil if there is none.
func (t *Table) Row(key string) []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if r := t.rows[key]; r != nil {
		return r[:len(r)-2]
	}
	return nil
}

// Rows gives all rows, with tree and date, in the order in which they came first.
func (t *Table) Rows() [][]string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.all()
}

func (t *Table) all() (out [][]string) {
	for _, k := range t.keys {
		out = append(out, t.rows[k])
	}
	return out
}

var clean = strings.NewReplacer("\t", " ", "\n", " ", "\r", " ")

// Put records a row, whose first cell is its key, and writes the file.
func (t *Table) Put(cells ...string) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(cells) != len(t.columns)-2 {
		return fmt.Errorf("writing %s: %d cells for %d columns", t.path, len(cells), len(t.columns)-2)
	}
	row := append(append([]string(nil), cells...), t.tree, time.Now().UTC().Format("2006-01-02"))
	for i := range row {
		row[i] = clean.Replace(strings.TrimSpace(row[i]))
	}
	if t.rows[row[0]] == nil {
		t.keys = append(t.keys, row[0])
	}
	t.rows[row[0]] = row
	var b bytes.Buffer
	fmt.Fprintf(&b, "# SPDX-License-Identifier: Apache-2.0\n# %s\n", t.head)
	if t.Summary != nil {
		for line := range strings.Lines(t.Summary(t.all())) {
			fmt.Fprintf(&b, "# %s", line)
		}
	}
	fmt.Fprintln(&b, strings.Join(t.columns, "\t"))
	for _, r := range t.all() {
		fmt.Fprintln(&b, strings.Join(r, "\t"))
	}
	return renameio.WriteFile(t.path, b.Bytes(), 0o644)
}

// TreeHash is what git calls the tree that is measured, with a mark if files have
// changed since.
func TreeHash(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, "git", "rev-parse", "HEAD^{tree}").Output()
	if err != nil {
		return "", fmt.Errorf("asking git for the tree that is measured: %w", err)
	}
	tree := strings.TrimSpace(string(out))[:12]
	dirty, err := exec.CommandContext(ctx, "git", "status", "--porcelain", "--", ":/*.go", ":/*.c", ":/*.h", ":/*.patch").Output()
	if err != nil {
		return "", fmt.Errorf("asking git for changes: %w", err)
	}
	if len(bytes.TrimSpace(dirty)) > 0 {
		tree += "-dirty"
	}
	return tree, nil
}
