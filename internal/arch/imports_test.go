// SPDX-License-Identifier: Apache-2.0

// Package arch has no code: its tests hold the shape of the whole tree.
package arch

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/lupatch/lupatch"

// layer says where a package stands. Imports point down: a package imports those
// of lower layers only. Within the leaves a package may use another leaf (the
// compiler sees to it that no circle comes of it); higher up it may not. The
// longest entry that is a package's path or a parent of it counts.
var layer = map[string]int{
	"cmd":                4,
	"examples":           4,
	"internal/evidence":  4, // long runs over what users run
	"internal/live":      4, // programs for tests on real kernels
	"update":             3,
	"internal/build":     3,
	"internal/lab":       3,
	"internal/kmodule":   1, // reads module files, boots nothing
	"internal/disasm":    3,
	"internal/doctor":    3,
	"quiesce":            2,
	"probation":          2,
	"shadow":             2,
	"shadow/shadowtest":  3, // compiles drivers for tests
	"versions":           2,
	"internal/kbuild":    2,
	"patchgen":           2,
	"internal/runpre":    2,
	"kpatch":             1,
	"bpf":                1,
	"internal/kallsyms":  1,
	"internal/elfobj":    1,
	"internal/deb":       1,
	"internal/manifest":  1,
	"internal/sign":      1,
	"internal/journal":   1,
	"internal/review":    1, // reads texts, knows no kernel
	"internal/instances": 1, // reads sysfs
	"internal/netns":     1,
	"internal/refuse":    0, // used by all, uses none
	"internal/sample":    0, // for tests
	"internal/arch":      0,
}

// place gives the entry of layer that a package belongs to; empty if none.
func place(pkg string) string {
	for ; pkg != "." && pkg != ""; pkg = filepath.Dir(pkg) {
		if _, ok := layer[pkg]; ok {
			return pkg
		}
	}
	return ""
}

// allowed says whether package from may import package to.
func allowed(from, to string) bool {
	a, b := place(from), place(to)
	if a == "" || b == "" {
		return false
	}
	return a == b || layer[a] > layer[b] || layer[a] == 1 && layer[b] == 1
}

// files calls f for every file of the tree below the module's root; generated
// trees and version control are left out.
func files(t *testing.T, f func(path string)) {
	t.Helper()
	root := filepath.Join("..", "..")
	if _, err := os.Stat(filepath.Join(root, "go.mod")); err != nil {
		t.Fatal(err)
	}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		if d.IsDir() {
			if name := d.Name(); rel != "." && strings.HasPrefix(name, ".") && name != ".ci" {
				return filepath.SkipDir
			}
			return nil
		}
		f(rel)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestImports(t *testing.T) {
	seen := map[string]bool{}
	files(t, func(path string) {
		// Tests may use what they like; a program of the tests is no part of
		// the tree.
		if filepath.Ext(path) != ".go" || strings.HasSuffix(path, "_test.go") || strings.Contains(path, "testdata/") {
			return
		}
		f, err := parser.ParseFile(token.NewFileSet(), filepath.Join("..", "..", path), nil, parser.ImportsOnly)
		if err != nil {
			t.Errorf("%s: %v", path, err)
			return
		}
		from := filepath.Dir(path)
		seen[place(from)] = true
		if place(from) == "" {
			t.Errorf("package %s has no place in the layers: give it one, here and in the documentation", from)
			return
		}
		for _, spec := range f.Imports {
			name, _ := strconv.Unquote(spec.Path.Value)
			to, ours := strings.CutPrefix(name, module+"/")
			if ours && !allowed(from, to) {
				t.Errorf("%s imports %s: %s must not use %s", path, to, place(from), place(to))
			}
			if name == "C" {
				t.Errorf("%s needs cgo", path)
			}
			if strings.HasPrefix(name, "github.com/iovisor/gobpf") && place(from) != "bpf" {
				t.Errorf("%s imports %s, which only package bpf does", path, name)
			}
		}
	})
	for _, must := range []string{"cmd", "update", "versions", "kpatch", "patchgen", "internal/refuse"} {
		if !seen[must] {
			t.Errorf("no file of %s was looked at", must)
		}
	}
}

// The rule itself can say no.
func TestAllowed(t *testing.T) {
	for _, c := range []struct {
		from, to string
		want     bool
	}{
		{"cmd/lupatch", "update", true},
		{"update", "versions", true},
		{"versions", "kpatch", true},
		{"kpatch", "internal/manifest", true},
		{"kpatch/kpatchtest", "internal/manifest", true},
		{"patchgen", "internal/elfobj", true},
		{"internal/lab/guest", "internal/lab/wire", true},
		{"update", "cmd/lupatch", false},
		{"update", "internal/build", false},
		{"versions", "update", false},
		{"patchgen", "internal/kbuild", false},
		{"internal/runpre", "patchgen", false},
		{"kpatch", "versions", false},
		{"internal/refuse", "internal/manifest", false},
		{"cmd/lupatch", "somewhere/new", false},
		{"somewhere/new", "internal/refuse", false},
	} {
		if got := allowed(c.from, c.to); got != c.want {
			t.Errorf("%s → %s: %v", c.from, c.to, got)
		}
	}
}
