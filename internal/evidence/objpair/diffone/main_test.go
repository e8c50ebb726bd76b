// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/lupatch/lupatch/internal/evidence/objpair"
)

func TestRunRefuses(t *testing.T) {
	dir := t.TempDir()
	f := &objpair.Fix{Dir: dir, Pairs: []objpair.Pair{{Source: "a.c", Unit: "m", Old: "a.o", New: "b.o"}}}
	if err := f.Write(); err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(dir, "out.o")
	for name, args := range map[string][]string{
		"no arguments": nil, "no such pair": {dir, "1", "s", out}, "no number": {dir, "x", "s", out},
		"negative": {dir, "-1", "s", out}, "no objects": {dir, "0", "s", out}, "no folder": {filepath.Join(dir, "none"), "0", "s", out},
	} {
		if err := run(args); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if _, err := os.Stat(out); err == nil {
		t.Error("something was written")
	}
}

func TestMapped(t *testing.T) {
	p := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(p, []byte("text"), 0o644); err != nil {
		t.Fatal(err)
	}
	if b, err := mapped(p); err != nil || string(b) != "text" {
		t.Errorf("%q, %v", b, err)
	}
	if err := os.WriteFile(p, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if b, err := mapped(p); err != nil || len(b) != 0 {
		t.Errorf("an empty file: %q, %v", b, err)
	}
	if _, err := mapped(p + ".none"); err == nil {
		t.Error("a file that is not there was mapped")
	}
}
