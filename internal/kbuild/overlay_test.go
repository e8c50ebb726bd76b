// SPDX-License-Identifier: Apache-2.0

package kbuild

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/lupatch/lupatch/internal/refuse"
)

// smallTree is a source in which headers are reached by way of "..".
func smallTree(t *testing.T) *Tree {
	t.Helper()
	src, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	write(t, src, map[string]string{
		"a/one.c":         "#include \"../b/inner/far.h\"\n#include <top.h>\nint one(void) { return VALUE + TOP; }\n",
		"a/value.h":       "#define VALUE 1\n",
		"b/inner/far.h":   "#include \"../near.h\"\n",
		"b/near.h":        "#include \"../a/value.h\"\n",
		"b/other.c":       "#include \"../a/value.h\"\nint other = VALUE;\n",
		"include/top.h":   "#define TOP 0\n",
		"d/untouched.txt": "x",
	})
	if err := os.Symlink("a", filepath.Join(src, "link")); err != nil {
		t.Fatal(err)
	}
	cache, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return &Tree{Kind: KindTree, Src: src, KernelSrc: src, Obj: cache, UserObj: "/none", CC: "gcc", cache: cache, opt: Options{Jobs: 2}, listings: map[string]*listing{}}
}

func smallTU(tr *Tree, src string) *TU {
	obj := strings.TrimSuffix(src, ".c") + ".o"
	return &TU{Source: src, Object: obj, Unit: Vmlinux, Obj: tr.Obj, Compile: []string{
		"gcc", "-Wp,-MMD," + obj + ".d", "-I" + tr.Src + "/include", "-fmacro-prefix-map=" + tr.Src + "/=", "-g", "-O2", "-c", "-o", obj, tr.Src + "/" + src,
	}}
}

func TestOverlayThroughParents(t *testing.T) {
	tr := smallTree(t)
	before := snapshot(t, tr.Src)
	ov := overlay(t, tr, map[string][]byte{"a/value.h": []byte("#define VALUE 4711\n")})
	for _, dir := range []string{"b", "include", "d"} {
		if st, err := os.Lstat(filepath.Join(ov.Root, dir)); err != nil || st.Mode()&fs.ModeSymlink == 0 {
			t.Errorf("%s is copied without need", dir)
		}
	}
	for _, src := range []string{"a/one.c", "b/other.c"} {
		text, err := tr.Preprocess(t.Context(), smallTU(tr, src), ov)
		if err != nil || !bytes.Contains(text, []byte("4711")) {
			t.Errorf("%s reads the unchanged header: %q, %v", src, text, err)
		}
		o, err := tr.Compile(t.Context(), Job{TU: smallTU(tr, src), Overlay: ov, Flavor: Shipped})
		if err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(o.Path)
		if err != nil || !bytes.Contains(b, []byte{0x67, 0x12}) || bytes.Contains(b, []byte(ov.Root)) {
			t.Errorf("%s: the object has not the changed value, or names the overlay: %v", src, err)
		}
	}
	if after := snapshot(t, tr.Src); strings.Join(before, "\n") != strings.Join(after, "\n") {
		t.Error("the source was written")
	}
	root := ov.Root
	if err := ov.Close(); err != nil || exists(root) {
		t.Errorf("closed: %v", err)
	}
	if after := snapshot(t, tr.Src); strings.Join(before, "\n") != strings.Join(after, "\n") {
		t.Error("closing removed files of the source")
	}
}

// Several compilations discover the same folders at once.
func TestOverlayInParallel(t *testing.T) {
	tr := smallTree(t)
	ov := overlay(t, tr, map[string][]byte{"a/value.h": []byte("#define VALUE 4711\n")})
	var wg sync.WaitGroup
	for range 8 {
		for _, src := range []string{"a/one.c", "b/other.c"} {
			wg.Go(func() {
				text, err := tr.Preprocess(t.Context(), smallTU(tr, src), ov)
				if err != nil || !bytes.Contains(text, []byte("4711")) {
					t.Errorf("%s: %q, %v", src, text, err)
				}
			})
		}
	}
	wg.Wait()
	if left, _ := filepath.Glob(filepath.Join(ov.Root, ".lupatch-*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestOverlayRemoveAndAdd(t *testing.T) {
	tr := smallTree(t)
	ov := overlay(t, tr, map[string][]byte{"include/top.h": nil, "new/deep/file.c": []byte("int x;\n"), "a/./value.h": []byte("#define VALUE 2\n")})
	if exists(filepath.Join(ov.Root, "include/top.h")) || !exists(filepath.Join(tr.Src, "include/top.h")) {
		t.Error("removed: not in the overlay only")
	}
	if b, err := os.ReadFile(filepath.Join(ov.Root, "new/deep/file.c")); err != nil || string(b) != "int x;\n" {
		t.Errorf("added: %q, %v", b, err)
	}
	if !ov.Changed("a/value.h") || ov.Changed("a/one.c") {
		t.Error("Changed is wrong")
	}
	_, err := tr.Compile(t.Context(), Job{TU: smallTU(tr, "a/one.c"), Overlay: ov, Flavor: Shipped})
	wantRefusal(t, err, refuse.CompileFailed, "top.h")
}

func TestOverlayRefused(t *testing.T) {
	tr := smallTree(t)
	for p, text := range map[string]string{
		"../outside.c": "out of the source", "/etc/passwd": "out of the source", "a/../../x": "out of the source", ".": "out of the source",
		"link/value.h": "link is not a folder", "a/value.h/x.c": "value.h is not a folder",
	} {
		ov, err := tr.Overlay(map[string][]byte{p: []byte("x")})
		if ov != nil {
			t.Errorf("%s: an overlay", p)
		}
		wantRefusal(t, err, refuse.PatchScope, text)
	}
}
