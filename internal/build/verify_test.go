// SPDX-License-Identifier: Apache-2.0

package build_test

import (
	"bytes"
	"context"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lupatch/lupatch/internal/build"
	"github.com/lupatch/lupatch/internal/deb"
	"github.com/lupatch/lupatch/internal/elfobj"
	"github.com/lupatch/lupatch/internal/kallsyms"
	"github.com/lupatch/lupatch/internal/kbuild"
	"github.com/lupatch/lupatch/internal/lab/labtest"
	"github.com/lupatch/lupatch/internal/refuse"
	"github.com/lupatch/lupatch/internal/runpre"
	"github.com/lupatch/lupatch/internal/sample"
)

const (
	release = "6.1.0-47-amd64"
	// otherSource is the version of another kernel of the series, whose source
	// is not that of release.
	otherSource = "6.1.176-1"
)

func needKernel(t testing.TB) {
	t.Helper()
	if testing.Short() {
		t.Skip("needs a kernel's packages")
	}
}

func openTree(t testing.TB) *kbuild.Tree { t.Helper(); return openRelease(t, release) }

func openRelease(t testing.TB, release string) *kbuild.Tree {
	t.Helper()
	needKernel(t)
	tree, err := kbuild.Open(context.Background(), kbuild.Options{Release: release})
	if err != nil {
		t.Fatal(err)
	}
	return tree
}

func compileShipped(t testing.TB, tree *kbuild.Tree, tu *kbuild.TU, ov *kbuild.Overlay) *elfobj.File {
	t.Helper()
	obj, err := tree.Compile(context.Background(), kbuild.Job{TU: tu, Overlay: ov, Flavor: kbuild.Shipped})
	if err != nil {
		t.Fatal(err)
	}
	f, err := elfobj.ReadFile(obj.Path)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// TestVerifyModule compares every function of every file of e1000 with the
// shipped module.
func TestVerifyModule(t *testing.T) {
	forKernels(t, verifyModule)
}

// forKernels runs a test on a kernel whose objtool works on each object, and on
// one whose objtool works on what is linked.
func forKernels(t *testing.T, test func(*testing.T, *kbuild.Tree)) {
	needKernel(t)
	for _, r := range []string{release, labtest.Backport(t)} {
		t.Run(r, func(t *testing.T) { test(t, openRelease(t, r)) })
	}
}

func verifyModule(t *testing.T, tree *kbuild.Tree) {
	ctx := context.Background()
	tu, err := tree.TU(ctx, "drivers/net/ethernet/intel/e1000/e1000_main.c")
	if err != nil {
		t.Fatal(err)
	}
	all, err := tree.UnitTUs(ctx, tu)
	if err != nil {
		t.Fatal(err)
	}
	path, err := tree.Shipped(ctx, "e1000")
	if err != nil {
		t.Fatal(err)
	}
	ko, err := elfobj.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	verified := 0
	for _, u := range all {
		r, err := runpre.Module("e1000", compileShipped(t, tree, u, nil), ko)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range r.Mismatches {
			t.Errorf("%s: %s+%#x: %s", u.Source, m.Function, m.Offset, m.What)
		}
		verified += r.Verified
	}
	shipped := 0
	for _, y := range ko.Symbols {
		// What the module build itself adds is in none of the files, and what
		// objtool calls __pfx_ is no function.
		if strings.HasPrefix(y.Name, "__pfx_") {
			continue
		}
		if y.Type == 2 && y.Section != nil && y.Size > 0 && y.Name != "init_module" && y.Name != "cleanup_module" {
			shipped++
		}
	}
	t.Logf("%d functions of %d files verified, %d in the shipped module", verified, len(all), shipped)
	if len(all) != 4 || verified < shipped || verified < 150 {
		t.Errorf("%d functions of %d files verified, the module has %d", verified, len(all), shipped)
	}
}

// TestVerifyImage does the same for files of the kernel image, which has no
// relocations left; tcp_ipv4.c has hundreds of references of every kind.
func TestVerifyImage(t *testing.T) {
	forKernels(t, verifyImage)
}

func verifyImage(t *testing.T, tree *kbuild.Tree) {
	im, syms := openImage(t, tree)
	for source, least := range map[string]int{"fs/proc/meminfo.c": 2, "fs/proc/version.c": 2, "net/ipv4/tcp_ipv4.c": 60, "kernel/fork.c": 80, "mm/memory.c": 80} {
		tu, err := tree.TU(context.Background(), source)
		if err != nil {
			t.Fatal(err)
		}
		r, err := runpre.Kernel(compileShipped(t, tree, tu, nil), im, syms)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range r.Mismatches {
			t.Errorf("%s: %s+%#x: %s", source, m.Function, m.Offset, m.What)
		}
		t.Logf("%s: %d functions verified, overridden elsewhere: %v", source, r.Verified, r.Overridden)
		if r.Verified < least {
			t.Errorf("%s: only %d functions verified", source, r.Verified)
		}
	}
}

func openImage(t testing.TB, tree *kbuild.Tree) (*kallsyms.Image, *kallsyms.Table) {
	t.Helper()
	path, err := tree.Shipped(context.Background(), kbuild.Vmlinux)
	if err != nil {
		t.Fatal(err)
	}
	im, err := kallsyms.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	syms, err := im.Symbols()
	if err != nil {
		t.Fatal(err)
	}
	return im, syms
}

func wantRefusal(t *testing.T, err error, id refuse.ID, words ...string) {
	t.Helper()
	e, ok := refuse.As(err)
	if !ok {
		t.Fatalf("got %v, want the refusal %s", err, id)
	}
	if e.ID != id {
		t.Errorf("refused as %s (%v), want %s", e.ID, err, id)
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("%q does not mention %q", err, w)
		}
	}
	t.Log(err)
}

// TestWrongOption: a compiler option that the distribution did not use.
func TestWrongOption(t *testing.T) {
	needKernel(t)
	for _, patch := range []string{"e1000-mtu-limit", "meminfo-used"} {
		_, err := build.Run(context.Background(), build.Options{
			Patch: "../../examples/" + patch + ".patch", Release: release, Output: filepath.Join(t.TempDir(), "x.ko"), ExtraFlags: []string{"-O1"},
		})
		wantRefusal(t, err, refuse.RunPreMismatch, "+0x", "compiler options")
	}
}

// TestWrongSource: the source of another version, in a file that differs.
func TestWrongSource(t *testing.T) {
	tree := openTree(t)
	const source = "net/sched/act_csum.c"
	other := sourceFile(t, otherSource, source)
	same, err := os.ReadFile(filepath.Join(tree.Src, source))
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Equal(other, same) {
		t.Fatalf("%s does not differ between the versions; choose another file", source)
	}
	ctx := context.Background()
	tu, err := tree.TU(ctx, source)
	if err != nil {
		t.Fatal(err)
	}
	path, err := tree.Shipped(ctx, tu.Unit)
	if err != nil {
		t.Fatal(err)
	}
	ko, err := elfobj.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	ov, err := tree.Overlay(map[string][]byte{source: other})
	if err != nil {
		t.Fatal(err)
	}
	defer ov.Close()
	check := func(ov *kbuild.Overlay) error {
		obj := compileShipped(t, tree, tu, ov)
		r, err := runpre.Module(tu.Unit, obj, ko)
		if err != nil {
			t.Fatal(err)
		}
		return r.Err(runpre.Compiler(obj), runpre.Compiler(ko))
	}
	if err := check(nil); err != nil {
		t.Errorf("the right source: %v", err)
	}
	wantRefusal(t, check(ov), refuse.RunPreMismatch, "+0x", "source version")
}

// sourceFile takes one file out of a source package.
func sourceFile(t *testing.T, version, path string) []byte {
	t.Helper()
	cache, err := deb.New("")
	if err != nil {
		t.Fatal(err)
	}
	kept := filepath.Join(cache.Root, "testfiles", version, path)
	if b, err := os.ReadFile(kept); err == nil {
		return b
	}
	const tarball = "usr/src/linux-source-6.1.tar.xz"
	dir, err := cache.Unpack(context.Background(), "linux-source-6.1", version, tarball)
	if err != nil {
		t.Fatal(err)
	}
	b, err := exec.Command("tar", "-xJOf", filepath.Join(dir, tarball), "linux-source-6.1/"+path).Output()
	if err != nil {
		t.Fatalf("unpacking %s: %v", path, err)
	}
	if err := os.MkdirAll(filepath.Dir(kept), 0o755); err == nil {
		err = os.WriteFile(kept, b, 0o644)
	}
	if err != nil {
		t.Log("not kept for the next time:", err)
	}
	return b
}

// TestWrongConfig: a build folder of the user in which one symbol of the
// configuration differs from the running kernel's.
func TestWrongConfig(t *testing.T) {
	sample.OnlyThorough(t, "nothing else has a wrong configuration; TestRefused has other refusals")
	tree := openTree(t)
	const symbol = "MEMORY_FAILURE"
	dir := t.TempDir()
	copyTree(t, tree.Obj, dir)
	for _, f := range []struct{ path, from, to string }{
		{".config", "CONFIG_" + symbol + "=y", "# CONFIG_" + symbol + " is not set"},
		{"include/config/auto.conf", "CONFIG_" + symbol + "=y\n", ""},
		{"include/generated/autoconf.h", "#define CONFIG_" + symbol + " 1\n", ""},
	} {
		p := filepath.Join(dir, f.path)
		b, err := os.ReadFile(p)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Contains(b, []byte(f.from)) {
			t.Fatalf("%s does not hold %q", f.path, f.from)
		}
		if err := os.WriteFile(p, bytes.Replace(b, []byte(f.from), []byte(f.to), 1), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	image, err := tree.Shipped(context.Background(), kbuild.Vmlinux)
	if err != nil {
		t.Fatal(err)
	}
	for link, to := range map[string]string{"source": tree.Src, "vmlinux": image} {
		os.Remove(filepath.Join(dir, link))
		if err := os.Symlink(to, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "Makefile"), []byte("include "+tree.Src+"/Makefile\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	_, err = build.Run(context.Background(), build.Options{
		Patch: "../../examples/meminfo-used.patch", Dir: dir, Release: release, Output: filepath.Join(t.TempDir(), "x.ko"),
	})
	wantRefusal(t, err, refuse.RunPreMismatch, "meminfo_proc_show+0x")
}

func copyTree(t *testing.T, from, to string) {
	t.Helper()
	err := filepath.WalkDir(from, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, p)
		if err != nil {
			return err
		}
		dst := filepath.Join(to, rel)
		switch {
		case d.IsDir():
			return os.MkdirAll(dst, 0o755)
		case d.Type()&fs.ModeSymlink != 0:
			l, err := os.Readlink(p)
			if err != nil {
				return err
			}
			return os.Symlink(l, dst)
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		b, err := os.ReadFile(p)
		if err != nil {
			return err
		}
		if err := os.WriteFile(dst, b, info.Mode().Perm()|0o200); err != nil {
			return err
		}
		return os.Chtimes(dst, info.ModTime(), info.ModTime())
	})
	if err != nil {
		t.Fatal(err)
	}
}
