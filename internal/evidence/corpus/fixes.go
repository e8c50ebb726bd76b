// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/csv"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// fix is one line of a corpus.
type fix struct {
	name                 string // of the patch file
	path                 string
	subject, class, area string
	files                []string
}

// sources are the C files that the fix changes.
func (f *fix) sources() (out []string) {
	for _, s := range f.files {
		if strings.HasSuffix(s, ".c") {
			out = append(out, s)
		}
	}
	return out
}

// readFixes reads fixes.tsv, whose first line names the columns.
func readFixes(dir string) ([]*fix, error) {
	f, err := os.Open(filepath.Join(dir, "fixes.tsv"))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	r := csv.NewReader(f)
	r.Comma, r.LazyQuotes, r.FieldsPerRecord = '\t', true, -1
	head, err := r.Read()
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", f.Name(), err)
	}
	col := func(rec []string, name string) string {
		if i := slices.Index(head, name); i >= 0 && i < len(rec) {
			return rec[i]
		}
		return ""
	}
	var out []*fix
	for {
		rec, err := r.Read()
		if err == io.EOF {
			return out, nil
		}
		if err != nil {
			return nil, fmt.Errorf("reading %s: %w", f.Name(), err)
		}
		x := &fix{
			name: col(rec, "patch"), subject: col(rec, "subject"), class: col(rec, "class"), area: col(rec, "area"),
			files: strings.Split(col(rec, "files"), ","),
		}
		x.path = filepath.Join(dir, "fixes", x.name)
		if _, err := os.Stat(x.path); err != nil {
			return nil, fmt.Errorf("reading %s: %w", f.Name(), err)
		}
		out = append(out, x)
	}
}

// choose draws the sample and keeps the corpus' order.
func choose(fixes []*fix, o options) []*fix {
	if o.only != "" {
		fixes = slices.DeleteFunc(fixes, func(f *fix) bool { return !strings.Contains(f.name, o.only) })
	}
	if o.n <= 0 || o.n >= len(fixes) {
		return fixes
	}
	drawn := rand.New(rand.NewPCG(o.seed, 0)).Perm(len(fixes))[:o.n]
	slices.Sort(drawn)
	out := make([]*fix, 0, o.n)
	for _, i := range drawn {
		out = append(out, fixes[i])
	}
	return out
}
