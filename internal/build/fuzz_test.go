// SPDX-License-Identifier: Apache-2.0

package build

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"testing"

	"github.com/lupatch/lupatch/internal/elfobj"
	"github.com/lupatch/lupatch/internal/manifest"
	"github.com/lupatch/lupatch/internal/refuse"
)

// FuzzReadPatch: a patch is refused or applied, never half.
func FuzzReadPatch(f *testing.F) {
	root := sourceTree(f)
	f.Add([]byte("--- a/fs/a.c\n+++ b/fs/a.c\n" + twoHunks))
	f.Add([]byte("From 1 Mon Sep 17 00:00:00 2001\nFrom: A <a@b>\nSubject: [PATCH] x\n y\n\ndiff --git a/fs/b.h b/fs/b.h\nindex 1..2 100644\n--- a/fs/b.h\n+++ b/fs/b.h\n@@ -1,2 +1,2 @@\n x\n-y\n\\ No newline at end of file\n+z\n\\ No newline at end of file\n-- \n2.3\n"))
	f.Add([]byte("diff --git fs/a.c fs/a.c\n--- fs/a.c\n+++ fs/a.c\n@@ -1 +1 @@\n-1\n+2\n"))
	f.Add([]byte("diff --git a/fs/a.c b/fs/c.c\nsimilarity index 100%\nrename from fs/a.c\nrename to fs/c.c\n"))
	f.Add([]byte("--- a/fs/a.c\n+++ b/fs/a.c\n@@ -9223372036854775807 +1 @@\n-1\n+2\n"))
	examples, err := filepath.Glob("../../examples/*.patch")
	if err != nil || len(examples) == 0 {
		f.Fatal("no examples", err)
	}
	for _, e := range examples {
		b, err := os.ReadFile(e)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	old := map[string][]byte{}
	for _, n := range []string{"fs/a.c", "fs/b.h", "fs/sub/a.c"} {
		b, err := os.ReadFile(filepath.Join(root, n))
		if err != nil {
			f.Fatal(err)
		}
		old[n] = b
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		c, err := readPatch("p", text, root, DefaultFuzz)
		if err != nil {
			if _, ok := refuse.As(err); !ok {
				t.Fatalf("not a refusal: %v", err)
			}
			if c != nil {
				t.Fatal("an error came with a result")
			}
			return
		}
		if len(c.files) == 0 {
			t.Fatal("nothing is changed")
		}
		for name, now := range c.files {
			before, ok := old[name]
			if !ok {
				t.Fatalf("%q is not in the source", name)
			}
			if at, ok := c.followLines(name, before, now); !ok {
				t.Fatalf("line %d of %s is not where the line map says", at, name)
			}
		}
	})
}

// followLines checks that every line that no hunk touches is where the map of
// lines says that it is.
func (c *change) followLines(name string, before, now []byte) (int, bool) {
	a, b := bytes.SplitAfter(before, []byte("\n")), bytes.SplitAfter(now, []byte("\n"))
	o, n := 1, 1
	same := func(end int) (int, bool) {
		for ; o < end; o, n = o+1, n+1 {
			if n > len(b) || !bytes.Equal(a[o-1], b[n-1]) {
				return o, false
			}
		}
		return 0, true
	}
	for _, h := range c.lines[name].Hunks {
		if at, ok := same(h.OldStart); !ok || n != h.NewStart {
			return at, false
		}
		o, n = o+h.OldLines, n+h.NewLines
	}
	if at, ok := same(len(a) + 1); !ok {
		return at, false
	}
	return 0, n == len(b)+1 || o == len(a)+1
}

// FuzzConvert: whatever the linker gave, the module is refused or well-formed.
// An input is made of the linked module by edits: four bytes of place, one of
// value.
func FuzzConvert(f *testing.F) {
	seed := linked(f)
	section, err := manifest.EncodeSection(sampleManifest())
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte{})
	f.Add([]byte{1, 0, 0, 0, 1, 2, 3, 0, 0, 255})
	f.Fuzz(func(t *testing.T, edits []byte) {
		ko := bytes.Clone(seed)
		for ; len(edits) >= 5; edits = edits[5:] {
			ko[uint64(binary.LittleEndian.Uint32(edits))%uint64(len(ko))] = edits[4]
		}
		out, err := convert(bytes.Clone(ko), section, nil)
		if err != nil {
			return
		}
		obj, err := elfobj.Read(out)
		if err != nil {
			t.Fatalf("what came out cannot be read: %v", err)
		}
		if _, err := manifest.FromModule(out); err != nil {
			t.Fatalf("what came out holds no manifest: %v", err)
		}
		if in, err := elfobj.Read(ko); err != nil || hasLivepatch(in) {
			return // an input may hold such symbols itself
		}
		for _, s := range obj.Sections {
			for _, r := range s.Relocs {
				if (r.Sym.Section == nil && r.Sym.Shndx == elfobj.ShnLivepatch) != (s.Target != nil) {
					t.Fatalf("%s refers to %s", s.Name, r.Sym.Name)
				}
			}
		}
	})
}

func hasLivepatch(f *elfobj.File) bool {
	for _, y := range f.Symbols {
		if y.Shndx == elfobj.ShnLivepatch {
			return true
		}
	}
	for _, s := range f.Sections {
		if s.Target != nil {
			return true
		}
	}
	return false
}
