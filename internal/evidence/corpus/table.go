// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/renameio/v2"
)

// Outcomes of a fix.
const (
	outcomeLoaded      = "loaded"       // built, loaded, taken back
	outcomeBuilt       = "built"        // built; not loaded yet
	outcomeRefused     = "refused"      // by lupatch, with a reason
	outcomeFailed      = "failed"       // anything else: a defect
	outcomeNotCompiled = "not-compiled" // not by plain kbuild either
)

// row is what is known of one fix.
type row struct {
	fix, area, class string
	outcome          string
	reason           string // identifier of a refusal, or why it does not compile
	effect           string
	units, functions string
	seconds          string // of the build
	target           string // whether the module to patch was there
	oracle           string
	word             string // what comes of it with the author's word on changed data
	tree             string
	detail           string
}

var columns = []string{"fix", "area", "class", "outcome", "reason", "effect", "units", "functions", "seconds", "target", "oracle", "word", "tree", "detail"}

func (r *row) fields() []*string {
	return []*string{&r.fix, &r.area, &r.class, &r.outcome, &r.reason, &r.effect, &r.units, &r.functions, &r.seconds, &r.target, &r.oracle, &r.word, &r.tree, &r.detail}
}

// table is the file of results. It is written anew after each fix, so that
// nothing is lost whenever the run ends.
type table struct {
	path, release, tree string

	single map[string]bool // fixes that change one file

	mu   sync.Mutex
	rows map[string]*row
}

func openTable(path, release, tree string) (*table, error) {
	t := &table{path: path, release: release, tree: tree, rows: map[string]*row{}}
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
		if line == "" || strings.HasPrefix(line, "#") || strings.HasPrefix(line, columns[0]+"\t") {
			continue
		}
		cells := strings.Split(line, "\t")
		if len(cells) != len(columns) {
			return nil, fmt.Errorf("reading %s: line %d has %d columns, not %d", path, n, len(cells), len(columns))
		}
		r := &row{}
		for i, p := range r.fields() {
			*p = cells[i]
		}
		t.rows[r.fix] = r
	}
	return t, s.Err()
}

// current says whether a fix need not be measured again. Without a wish to
// redo something, a row of another tree counts as old.
func (t *table) current(f *fix, redo map[string]bool, load bool) bool {
	r := t.rows[f.name]
	if r == nil || load && (r.outcome == outcomeBuilt || r.word == outcomeBuilt) {
		return false
	}
	for _, wanted := range redo {
		if wanted {
			return !redo[r.outcome] && !redo["all"]
		}
	}
	return r.tree == t.tree
}

func clean(s string) string {
	return strings.NewReplacer("\t", " ", "\n", " ", "\r", " ").Replace(strings.TrimSpace(s))
}

// put records a row and writes the file.
func (t *table) put(r *row) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	r.tree = t.tree
	for _, p := range r.fields() {
		*p = clean(*p)
	}
	t.rows[r.fix] = r
	var b bytes.Buffer
	fmt.Fprintf(&b, "# SPDX-License-Identifier: Apache-2.0\n# kernel %s, written %s by make evidence-corpus\n", t.release, time.Now().UTC().Format("2006-01-02"))
	fmt.Fprintln(&b, strings.Join(columns, "\t"))
	names := make([]string, 0, len(t.rows))
	for n := range t.rows {
		names = append(names, n)
	}
	slices.Sort(names)
	for _, n := range names {
		var cells []string
		for _, p := range t.rows[n].fields() {
			cells = append(cells, *p)
		}
		fmt.Fprintln(&b, strings.Join(cells, "\t"))
	}
	return renameio.WriteFile(t.path, b.Bytes(), 0o644)
}
