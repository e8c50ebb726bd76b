// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestLabels(t *testing.T) {
	path := filepath.Join(t.TempDir(), "labels.tsv")
	read := func(text string) (*labels, error) {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return readLabels(path)
	}
	l, err := read("# from a reader\npatch\trefusal\twhy\na.patch\tstruct-layout\tgrows\nb.patch\tdata-changed\ttable\nc.patch\tdata-changed\ttable\nd.patch\tdata-changed\ttable\ne.patch\tno-ftrace-site\tlib\n")
	if err != nil {
		t.Fatal(err)
	}
	got := l.against(map[string]*row{
		"a.patch": {outcome: outcomeRefused, reason: "struct-layout"},
		"b.patch": {outcome: outcomeRefused, reason: "nothing-changed"},
		"c.patch": {outcome: outcomeLoaded},
		"d.patch": {outcome: outcomeNotCompiled, reason: "does-not-apply"},
	})
	for _, want := range []string{"3 fixes that compile; 1 came out as expected", "- b: expected `data-changed`, came out as `nothing-changed`\n", "- c: expected `data-changed`, came out as loaded\n"} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is not in:\n%s", want, got)
		}
	}
	if strings.Contains(got, "- a:") || strings.Contains(got, "- d:") {
		t.Error(got)
	}
	for _, bad := range []string{"a.patch\tstruct-layout\n", "a.patch\tx\ty\na.patch\tx\ty\n"} {
		if _, err := read(bad); err == nil {
			t.Errorf("%q was read", bad)
		}
	}
}
