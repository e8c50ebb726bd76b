// SPDX-License-Identifier: Apache-2.0

package record

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestTable(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.tsv")
	a, err := Open(path, "about", "tree1", "key", "value")
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range [][]string{{"b", "1"}, {"a", "2\tand\nmore"}, {"b", "3"}} {
		if err := a.Put(r...); err != nil {
			t.Fatal(err)
		}
	}
	if err := a.Put("too", "many", "cells"); err == nil {
		t.Error("three cells for two columns")
	}
	b, err := Open(path, "about", "tree2", "key", "value")
	if err != nil {
		t.Fatal(err)
	}
	if !a.Has("b") || b.Has("b") || b.Has("none") || !slices.Equal(b.Row("b"), []string{"b", "3"}) || !slices.Equal(b.Row("a"), []string{"a", "2 and more"}) || b.Row("c") != nil {
		t.Error(b.rows)
	}
	b.Summary = func(rows [][]string) string { return fmt.Sprintf("%d rows\n", len(rows)) }
	if err := b.Put("c", "4"); err != nil {
		t.Fatal(err)
	}
	text, _ := os.ReadFile(path)
	if got := strings.Count(string(text), "\n"); got != 7 || !strings.Contains(string(text), "# about\n# 3 rows\nkey\tvalue\ttree\tdate\nb\t3\ttree1\t") {
		t.Errorf("%s", text)
	}
	if _, err := Open(path, "about", "tree2", "key"); err == nil {
		t.Error("other columns")
	}
}
