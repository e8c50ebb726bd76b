// SPDX-License-Identifier: Apache-2.0

package build_test

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lupatch/lupatch/internal/build"
	"github.com/lupatch/lupatch/internal/kmodule"
	"github.com/lupatch/lupatch/internal/manifest"
	"github.com/lupatch/lupatch/internal/refuse"
)

// driverOf is a build for the kernel of the tests, into a folder of the test.
func driverOf(t *testing.T, path string, alter func(*build.DriverOptions)) (*build.Result, error) {
	t.Helper()
	opt := build.DriverOptions{Path: path, Source: realTree(t).KernelSrc, Release: realTree(t).Release, Output: filepath.Join(t.TempDir(), "out.ko")}
	if alter != nil {
		alter(&opt)
	}
	res, err := build.Driver(t.Context(), opt)
	if err != nil {
		if left, _ := filepath.Glob(filepath.Join(filepath.Dir(opt.Output), "*")); left != nil {
			t.Errorf("%s: it failed and left %v", path, left)
		}
	}
	return res, err
}

// The kernel's own version of a driver, patched, by the folder; it is described by
// what lies beside it, and the source is as before.
func TestDriver(t *testing.T) {
	tree := realTree(t)
	source := filepath.Join(tree.KernelSrc, e1000H)
	before, err := os.ReadFile(source)
	if err != nil {
		t.Fatal(err)
	}
	patch := filepath.Join(t.TempDir(), "room.patch")
	diff := diffOf(t, edit{e1000H, "struct e1000_adapter {\n", "struct e1000_adapter {\n\tu8 room[2048];\n"})
	if err := os.WriteFile(patch, []byte(diff), 0o600); err != nil {
		t.Fatal(err)
	}
	res, err := driverOf(t, "drivers/net/ethernet/intel/e1000", func(o *build.DriverOptions) { o.Patch = patch })
	if err != nil {
		t.Fatal(err)
	}
	image, m, err := manifest.ReadUpdate(res.Path)
	if err != nil {
		t.Fatal(err)
	}
	info, err := kmodule.ParseInfo(image)
	if err != nil {
		t.Fatal(err)
	}
	shipped, err := tree.Shipped(t.Context(), "e1000")
	if err != nil {
		t.Fatal(err)
	}
	old, err := kmodule.Read(shipped)
	if err != nil {
		t.Fatal(err)
	}
	facts, err := kmodule.Examine(old)
	if err != nil {
		t.Fatal(err)
	}
	u := m.Units[0]
	if info.Name != "e1000" || u.Name != "e1000" || u.BuildID != facts.BuildID || u.Driver.Class != "net" || len(u.Driver.Devices) != 37 {
		t.Errorf("%+v, %+v", u, u.Driver)
	}
	if u.Driver.PrivateBefore != facts.Private || facts.Private < 1024 || u.Driver.Private != facts.Private+2048 {
		t.Errorf("room: %d before, %d now, %d shipped", u.Driver.PrivateBefore, u.Driver.Private, facts.Private)
	}
	if !strings.Contains(strings.Join(m.Review, "\n"), "the shipped one for") || len(m.Source.Files) != 7 || m.Source.Version != "6.1.170" {
		t.Errorf("%+v", m)
	}
	if after, err := os.ReadFile(source); err != nil || string(after) != string(before) {
		t.Errorf("the source was altered (%v)", err)
	}

	// The same source gives the same module, wherever it was laid out.
	again, err := driverOf(t, "drivers/net/ethernet/intel/e1000/e1000_main.c", func(o *build.DriverOptions) { o.Patch = patch })
	if err != nil {
		t.Fatal(err)
	}
	if digestOf(t, again.Path) != digestOf(t, res.Path) {
		t.Error("two builds of it differ")
	}
}

func digestOf(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	s := sha256.Sum256(b)
	return hex.EncodeToString(s[:])
}

// One of the folder's many modules, by its name.
func TestDriverByName(t *testing.T) {
	res, err := driverOf(t, "ne2k-pci", nil)
	if err != nil {
		t.Fatal(err)
	}
	u := res.Manifest.Units[0]
	if u.Name != "ne2k_pci" || u.Driver.Class != "net" || res.Manifest.Name != "ne2k_pci_6_1_170" {
		t.Errorf("%+v", res.Manifest)
	}
}

func TestDriverRefused(t *testing.T) {
	tree := realTree(t)
	helper := filepath.Join(t.TempDir(), "helper.patch")
	other := sourceWith(t, tree.KernelSrc, "drivers/net/ethernet/8390/lib8390.c", "#define ei_reset_8390 (ei_local->reset_8390)\n", "#define ei_reset_8390 (ei_local->reset_8390)\nstatic int lupatch_other;\n")
	if err := os.WriteFile(helper, []byte(diffOf(t, edit{"fs/ext4/mmp.c", "\tif (*bh)\n\t\tclear_buffer_uptodate(*bh);\n", "\tif (*bh)\n\t\tget_bh(*bh);\n"})), 0o600); err != nil {
		t.Fatal(err)
	}
	symbol := sourceWith(t, tree.KernelSrc, "drivers/net/ethernet/intel/e1000/e1000_main.c", "\tpr_info(\"%s\\n\", e1000_driver_string);\n", "\t{ void no_such(void); no_such(); }\n")
	broken := sourceWith(t, tree.KernelSrc, "drivers/net/ethernet/intel/e1000/e1000_main.c", "\tpr_info(\"%s\\n\", e1000_driver_string);\n", "\tno such thing;\n")
	const e1000 = "drivers/net/ethernet/intel/e1000"
	for _, c := range []struct {
		path  string
		alter func(*build.DriverOptions)
		id    refuse.ID
		want  string
	}{
		{"drivers/net", nil, refuse.PatchScope, "virtio_net"},
		{"drivers/net/none", nil, refuse.PatchScope, "no such file or folder"},
		{"drivers/net/Space.c", nil, refuse.PatchScope, "no module is made of it"},
		{"../etc", nil, refuse.PatchScope, "not in the source"},
		{"drivers/tty/vt", nil, refuse.PatchScope, "built in"},
		{"no_such_module", nil, refuse.SourceUnavailable, "no_such_module"},
		{e1000, func(o *build.DriverOptions) { o.Source = t.TempDir() }, refuse.SourceUnavailable, "not that of a kernel's source"},
		{e1000, func(o *build.DriverOptions) { o.Source = "/none/at/all" }, refuse.SourceUnavailable, "no such folder"},
		{e1000, func(o *build.DriverOptions) { o.Source = "bash=5.2" }, refuse.SourceUnavailable, "not one with the kernel's source"},
		{e1000, func(o *build.DriverOptions) { o.Patch = helper }, refuse.NothingChanged, "none of the files of e1000"},
		{e1000, func(o *build.DriverOptions) { o.Source = symbol }, refuse.UnresolvedSymbol, "no_such"},
		{e1000, func(o *build.DriverOptions) { o.Source = broken }, refuse.CompileFailed, "e1000_main.c"},
		{"drivers/net/ethernet/8390/ne2k-pci.c", func(o *build.DriverOptions) { o.Source = other }, refuse.DriverSet, "needs the module 8390"},
	} {
		_, err := driverOf(t, c.path, c.alter)
		e, ok := refuse.As(err)
		if !ok || e.ID != c.id || !strings.Contains(e.Error(), c.want) {
			t.Errorf("%s: %v, want %s: %q", c.path, err, c.id, c.want)
		}
	}
}

// sourceWith gives a kernel source that is another one but for a text in a file.
func sourceWith(t *testing.T, root, file, old, new string) string {
	t.Helper()
	to := t.TempDir()
	dir := "."
	for _, name := range strings.Split(file, "/") {
		entries, err := os.ReadDir(filepath.Join(root, dir))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(filepath.Join(to, dir), 0o755); err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if e.Name() != name {
				if err := os.Symlink(filepath.Join(root, dir, e.Name()), filepath.Join(to, dir, e.Name())); err != nil {
					t.Fatal(err)
				}
			}
		}
		dir = filepath.Join(dir, name)
	}
	b, err := os.ReadFile(filepath.Join(root, file))
	if err != nil {
		t.Fatal(err)
	}
	if strings.Count(string(b), old) != 1 {
		t.Fatalf("%q is not once in %s", old, file)
	}
	if err := os.WriteFile(filepath.Join(to, file), []byte(strings.Replace(string(b), old, new, 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	return to
}
