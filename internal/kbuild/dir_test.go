// SPDX-License-Identifier: Apache-2.0

package kbuild

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lupatch/lupatch/internal/refuse"
	"github.com/lupatch/lupatch/internal/sample"
)

// snapshot lists all files of a folder with sizes and times.
func snapshot(t *testing.T, dir string) []string {
	t.Helper()
	var out []string
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		st, err := d.Info()
		if err == nil {
			out = append(out, fmt.Sprintf("%s %v %d %v", p, st.Mode(), st.Size(), st.ModTime()))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func write(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		p := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// userTree makes what a user's kernel tree looks like: source, and what was
// configured (and built, if built says so) in it.
func userTree(t *testing.T, tr *Tree, built bool) string {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	real := map[string]bool{}
	for _, d := range []string{"arch/x86/include", "include", "scripts/basic", "scripts/kconfig", "scripts/mod", "scripts/genksyms", "tools/objtool", "fs/proc"} {
		withParents(real, d)
	}
	if err := mirror(tr.Src, dir, real, nil); err != nil {
		t.Fatal(err)
	}
	if !built {
		if err := copyFile(filepath.Join(tr.Obj, ".config"), filepath.Join(dir, ".config")); err != nil {
			t.Fatal(err)
		}
		return dir
	}
	err = copyTree(tr.Obj, dir, func(rel string, d fs.DirEntry) bool {
		// Folders that listings have left there.
		return d.IsDir() && !slices.Contains([]string{"include", "arch", "scripts", "tools"}, strings.Split(rel, "/")[0])
	})
	if err != nil {
		t.Fatal(err)
	}
	write(t, dir, map[string]string{
		"fs/proc/meminfo.o":      "what the last build left",
		"fs/proc/.meminfo.o.cmd": "cmd_fs/proc/meminfo.o := gcc -O0 nonsense\n",
		"vmlinux":                "no real one",
		"fs/proc/modules.order":  "",
	})
	return dir
}

func TestRealUserTree(t *testing.T) {
	tr := realTree(t)
	ref, err := tr.Compile(t.Context(), Job{TU: tu(t, tr, meminfo), Flavor: Shipped})
	if err != nil {
		t.Fatal(err)
	}
	check := func(t *testing.T, dir, userObj string) *Tree {
		t.Helper()
		before := snapshot(t, dir)
		begin := time.Now()
		u, err := Open(t.Context(), Options{Dir: userObj, CacheDir: t.TempDir()})
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("opened in %v", time.Since(begin).Round(time.Millisecond))
		if u.Kind != KindTree || u.Release != testRelease || u.Src != dir || u.UserObj != userObj {
			t.Errorf("%s %s %s %s", u.Kind, u.Release, u.Src, u.UserObj)
		}
		ov := overlay(t, u, map[string][]byte{"fs/proc/internal.h": append(edit(t, u, "fs/proc/internal.h", "", ""), '\n')})
		o, err := u.Compile(t.Context(), Job{TU: tu(t, u, meminfo), Flavor: Shipped, Overlay: ov})
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(code(t, ref.Path), code(t, o.Path)); d != "" {
			t.Errorf("not the distribution's code: %s", d[:min(len(d), 2000)])
		}
		if d := cmp.Diff(before, snapshot(t, dir)); d != "" {
			t.Errorf("the user's tree was written: %s", d)
		}
		return u
	}
	t.Run("built in place", func(t *testing.T) {
		dir := userTree(t, tr, true)
		u := check(t, dir, dir)
		if p, err := u.Shipped(t.Context(), Vmlinux); err != nil || p != filepath.Join(dir, "vmlinux") {
			t.Errorf("%s, %v", p, err)
		}
		_, err := u.Shipped(t.Context(), "e1000")
		wantRefusal(t, err, refuse.SourceUnavailable, "e1000")
		_, err = Open(t.Context(), Options{Dir: dir, Release: "6.1.0-1-amd64", CacheDir: t.TempDir()})
		wantRefusal(t, err, refuse.SourceUnavailable, "asked for is 6.1.0-1-amd64")
	})
	t.Run("build folder", func(t *testing.T) {
		obj, err := filepath.EvalSymlinks(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		if err := copyTree(tr.Obj, obj, nil); err != nil {
			t.Fatal(err)
		}
		write(t, obj, map[string]string{"Makefile": "include " + tr.Src + "/Makefile\n"})
		if err := os.Symlink(tr.Src, filepath.Join(obj, "source")); err != nil {
			t.Fatal(err)
		}
		before := snapshot(t, obj)
		check(t, tr.Src, obj)
		if d := cmp.Diff(before, snapshot(t, obj)); d != "" {
			t.Errorf("the user's build folder was written: %s", d)
		}
	})
	t.Run("configured only", func(t *testing.T) {
		sample.OnlyThorough(t, "the other two trees are read in the same way")
		dir := userTree(t, tr, false)
		// Its own release has not the distribution's suffix, so only that it
		// compiles is asked here.
		before := snapshot(t, dir)
		u, err := Open(t.Context(), Options{Dir: dir, CacheDir: t.TempDir()})
		if err != nil {
			t.Fatal(err)
		}
		o, err := u.Compile(t.Context(), Job{TU: tu(t, u, meminfo), Flavor: Shipped})
		if err != nil {
			t.Fatal(err)
		}
		if code(t, o.Path)[".text"] != code(t, ref.Path)[".text"] {
			t.Error("not the distribution's code")
		}
		if d := cmp.Diff(before, snapshot(t, dir)); d != "" {
			t.Errorf("the user's tree was written: %s", d)
		}
	})
}

func TestRealModuleDir(t *testing.T) {
	realTree(t) // prepared once
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	write(t, dir, map[string]string{
		"Makefile":   "obj-m := hello-world.o\nhello-world-y := main.o sub/part.o\nccflags-y := -DHELLO=42 -I$(src)/sub\nall:\n\t$(MAKE) -C /lib/modules/none/build M=$(PWD) modules\n",
		"main.c":     "#include <linux/module.h>\n#include \"part.h\"\nconst char *hello_file = __FILE__;\nint hello(void) { return part(HELLO); }\nEXPORT_SYMBOL_GPL(hello);\nMODULE_LICENSE(\"GPL\");\n",
		"sub/part.c": "#include \"part.h\"\nint part(int a) { return a + PART; }\n",
		"sub/part.h": "#define PART 1\nint part(int a);\n",
		// What the user's last build left.
		"main.o": "stale", ".main.o.cmd": "cmd_main.o := gcc nonsense\n", "hello-world.ko": "shipped", "modules.order": "hello-world.ko\n", "Module.symvers": "",
	})
	before := snapshot(t, dir)
	tr, err := Open(t.Context(), Options{Dir: dir, Release: testRelease})
	if err != nil {
		t.Fatal(err)
	}
	u := tu(t, tr, "sub/part.c")
	if tr.Kind != KindModule || u.Unit != "hello_world" || u.Module != "hello-world" {
		t.Errorf("%s %+v", tr.Kind, u)
	}
	units, err := tr.UnitTUs(t.Context(), u)
	if err != nil || len(units) != 2 || units[0].Source != "main.c" {
		t.Fatalf("%v, %v", units, err)
	}
	const part = "#define PART 1\nint part(int a);\n"
	for _, c := range []struct {
		new             string
		readers, differ int
		units           []string
	}{
		{"/* Part. */\n" + part, 0, 0, nil},
		{part + "int other(int a);\n", 2, 2, nil},
		{part + "#define OTHER 2\n", 2, 0, nil},
		{strings.Replace(part, "int a", "long a", 1), 2, 2, []string{"main.c", "sub/part.c"}},
		{strings.Replace(part, "PART 1", "PART 2", 1), 2, 1, []string{"sub/part.c"}},
	} {
		a, err := tr.Affected(t.Context(), overlay(t, tr, map[string][]byte{"sub/part.h": []byte(c.new)}), []string{"sub/part.h"}, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		var units []string
		for _, u := range a.Units {
			units = append(units, u.Source)
		}
		if a.Readers != c.readers || a.Differ != c.differ || !slices.Equal(units, c.units) {
			t.Errorf("%q: %+v, %q", c.new, a, units)
		}
	}
	ov := overlay(t, tr, map[string][]byte{"sub/part.h": []byte("#define PART 1\nint part(int a);\n/* same */\n")})
	plain, err := tr.CompileAll(t.Context(), []Job{{TU: units[0], Flavor: Shipped}, {TU: units[1], Flavor: Shipped}})
	if err != nil {
		t.Fatal(err)
	}
	over, err := tr.Compile(t.Context(), Job{TU: units[0], Flavor: Shipped, Overlay: ov})
	if err != nil {
		t.Fatal(err)
	}
	a, b := code(t, plain[0].Path), code(t, over.Path)
	if d := cmp.Diff(a, b); d != "" {
		t.Errorf("the overlay changed the code: %s", d)
	}
	if !strings.Contains(fmt.Sprint(a), dir+"/main.c") {
		t.Error("__FILE__ is not the absolute path that the user's build gives")
	}
	if crc, err := tr.ExportCRC(t.Context(), units[0], nil); err != nil || crc["hello"] == 0 {
		t.Errorf("%v, %v", crc, err)
	}
	if ko, err := tr.Shipped(t.Context(), "hello_world"); err != nil || ko != filepath.Join(dir, "hello-world.ko") {
		t.Errorf("%s, %v", ko, err)
	}
	_, err = tr.TU(t.Context(), "other.c")
	wantRefusal(t, err, refuse.PatchScope, "no such file")
	if d := cmp.Diff(before, snapshot(t, dir)); d != "" {
		t.Errorf("the module's folder was written: %s", d)
	}
}

// Files that need headers which only host tools make.
func TestRealHostTools(t *testing.T) {
	tr := realTree(t)
	for _, src := range []string{"net/ipv4/netfilter/nf_nat_snmp_basic_main.c", "security/selinux/avc.c"} {
		begin := time.Now()
		u := tu(t, tr, src)
		o, err := tr.Compile(t.Context(), Job{TU: u, Flavor: Shipped})
		if err != nil {
			t.Fatal(err)
		}
		if len(code(t, o.Path)[".text"]) < 500 {
			t.Errorf("%s: no code", src)
		}
		t.Logf("%s: %v", src, time.Since(begin).Round(time.Millisecond))
	}
}

func TestNoTree(t *testing.T) {
	empty, bare := t.TempDir(), t.TempDir()
	write(t, bare, map[string]string{"Kbuild": "", "Makefile": "", "scripts/Makefile.build": ""})
	mod := t.TempDir()
	write(t, mod, map[string]string{"Kbuild": "obj-$(CONFIG_X) += x.o\n"})
	for dir, text := range map[string]string{
		empty:            "neither a kernel tree nor",
		bare:             "not configured",
		mod:              "needs a kernel release",
		empty + "/other": "cannot be read",
	} {
		tr, err := Open(t.Context(), Options{Dir: dir, CacheDir: t.TempDir()})
		if tr != nil {
			t.Errorf("%s: a tree of kind %s", dir, tr.Kind)
		}
		wantRefusal(t, err, refuse.SourceUnavailable, text)
	}
}
