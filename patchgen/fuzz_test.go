// SPDX-License-Identifier: Apache-2.0

package patchgen_test

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"

	"github.com/lupatch/lupatch/internal/elfobj"
	"github.com/lupatch/lupatch/patchgen"
)

// pair is the compiled old and new version of a golden case.
type pair struct{ old, new []byte }

func pairs(f *testing.F) (out []pair) {
	for _, name := range []string{"body-change", "cold-part", "alternative", "line-and-change", "section-symbol", "static-local", "rodata-table", "shared-section", "once-data"} {
		ar, err := txtar.ParseFile(filepath.Join("testdata", name+".txtar"))
		if err != nil {
			f.Fatal(err)
		}
		var p pair
		for _, file := range ar.Files {
			switch file.Name {
			case "old.c":
				p.old = compileSeed(f, file.Data)
			case "new.c":
				p.new = compileSeed(f, file.Data)
			}
		}
		out = append(out, p)
	}
	return out
}

func compileSeed(f testing.TB, src []byte) []byte {
	// No path may get into the object: what an edit hits depends on its length.
	dir := f.TempDir()
	include, err := filepath.Abs("testdata")
	if err != nil {
		f.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "unit.c"), src, 0o644); err != nil {
		f.Fatal(err)
	}
	cmd := exec.Command("gcc", slices.Concat(kernelFlags, []string{"-fdebug-prefix-map=" + dir + "=.", "-gno-record-gcc-switches", "-fdebug-prefix-map=" + include + "=testdata", "-I", include, "-c", "-o", "unit.o", "unit.c"})...)
	cmd.Dir = dir
	if msg, err := cmd.CombinedOutput(); err != nil {
		f.Fatalf("gcc: %v\n%s", err, msg)
	}
	b, err := os.ReadFile(filepath.Join(dir, "unit.o"))
	if err != nil {
		f.Fatal(err)
	}
	return b
}

// mutate writes into a file what edits say: four bytes of place, one of value.
func mutate(b, edits []byte) []byte {
	b = bytes.Clone(b)
	for ; len(edits) >= 5; edits = edits[5:] {
		b[uint64(binary.LittleEndian.Uint32(edits))%uint64(len(b))] = edits[4]
	}
	return b
}

// A last entry that is cut off has no end for the library's reader.
func TestCutDebugInfo(t *testing.T) {
	whole := compileSeed(t, []byte("struct s { int a; }; int f(struct s *s) { return s->a; }"))
	cut := bytes.Clone(whole)
	f, err := elf.NewFile(bytes.NewReader(whole))
	if err != nil {
		t.Fatal(err)
	}
	s := f.Section(".debug_info")
	cut[s.Offset+s.Size-1] = 0xca // a number that goes on
	if err := patchgen.CheckLayouts(whole, cut); err == nil {
		t.Error("debugging information without an end was read")
	}
	if _, err := patchgen.ReadExtents(cut, "unit.c"); err == nil {
		t.Error("debugging information without an end was read")
	}
	if err := patchgen.CheckLayouts(whole, whole); err != nil {
		t.Error(err)
	}
}

type everywhere struct{}

func (everywhere) Callable(patchgen.Ref) bool { return true }

func (everywhere) Exported(string) (string, string, bool) { return "", "", false }

func (everywhere) Locate(name string, _ bool) (patchgen.Ref, error) {
	return patchgen.Ref{Object: "m", Symbol: name}, nil
}

// FuzzGenerate: objects that a compiler would not write give an error or an
// object that can be read, never a panic.
func FuzzGenerate(f *testing.F) {
	seeds := pairs(f)
	for i := range seeds {
		f.Add(uint8(i), []byte{}, []byte{})
		f.Add(uint8(i), []byte{200, 1, 0, 0, 7}, []byte{9, 2, 0, 0, 255, 10, 2, 0, 0, 255})
	}
	f.Fuzz(func(t *testing.T, which uint8, inOld, inNew []byte) {
		p := seeds[int(which)%len(seeds)]
		a, b := mutate(p.old, inOld), mutate(p.new, inNew)
		old, err := elfobj.Read(bytes.Clone(a))
		if err != nil {
			return
		}
		new, err := elfobj.Read(bytes.Clone(b))
		if err != nil {
			return
		}
		_ = patchgen.CheckLayouts(a, b)
		_, _ = patchgen.LayoutUsers(b, "dev")
		_, _ = patchgen.ReadPrototypes(b)
		ext, err := patchgen.ReadExtents(a, "unit.c")
		if err != nil {
			ext = nil
		}
		patchgen.NewGlobals(old, new, patchgen.DefaultSizes())
		res, err := patchgen.Generate(patchgen.Input{
			Unit: "m", Old: old, New: new, Sizes: patchgen.DefaultSizes(), Lines: &patchgen.LineMap{}, OldLines: ext,
			Kernel: everywhere{}, AliasPrefix: "alias_", NewObject: b, Data: []patchgen.DataRule{{Action: patchgen.DataPre}},
		})
		if err != nil {
			if res != nil {
				t.Fatal("an error came with a result")
			}
			return
		}
		if res.Empty() {
			return
		}
		out, err := res.Object.Bytes()
		if err != nil {
			return
		}
		if _, err := elfobj.Read(out); err != nil {
			t.Fatalf("what came out cannot be read: %v", err)
		}
		var names []string
		for _, fn := range res.Functions {
			if !fn.New {
				names = append(names, fn.Name)
			}
		}
		_, _ = patchgen.Digests(old, patchgen.DefaultSizes(), names)
	})
}
