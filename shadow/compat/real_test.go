// SPDX-License-Identifier: Apache-2.0

package compat_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lupatch/lupatch/internal/kbuild"
	"github.com/lupatch/lupatch/internal/kmodule"
	"github.com/lupatch/lupatch/internal/lab/labtest"
	"github.com/lupatch/lupatch/kpatch"
	"github.com/lupatch/lupatch/kpatch/kpatchtest"
	"github.com/lupatch/lupatch/shadow/compat"
	"github.com/lupatch/lupatch/shadow/shadowtest"
)

// installed is a host with the files of Debian's kernel, on which the distribution's
// e1000 and virtio_net are in memory, each with a device of QEMU's.
func installed(t *testing.T) *kpatch.Kernel {
	t.Helper()
	labtest.SkipIfShort(t)
	pkg := labtest.Kernel(t, kpatchtest.Release)
	root, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	fake := kpatchtest.New(root)
	fake.RemoveModule("e1000")
	symlink(t, filepath.Dir(pkg.Modules()), root+"/lib/modules")
	symlink(t, pkg.Vmlinuz(), root+"/boot/vmlinuz-"+pkg.Release)
	for module, alias := range map[string]string{"e1000": "pci:v00008086d0000100Esv00001AF4sd00001100bc02sc00i00", "virtio_net": "virtio:d00000001v00001AF4"} {
		file, err := kmodule.Read(filepath.Join(pkg.Modules(), "kernel", map[string]string{"e1000": "drivers/net/ethernet/intel/e1000/e1000.ko", "virtio_net": "drivers/net/virtio_net.ko"}[module]))
		if err != nil {
			t.Fatal(err)
		}
		facts, err := kmodule.Examine(file)
		if err != nil {
			t.Fatal(err)
		}
		fake.AddModule(module, facts.BuildID)
		dev := "dev-" + module
		put(t, root+"/sys/devices/pci0000:00/"+dev+"/modalias", alias+"\n")
		put(t, root+"/sys/devices/pci0000:00/"+dev+"/net/"+module+"/type", "1\n")
		fake.Bind(module, module, dev)
	}
	return &kpatch.Kernel{Root: root, Sys: fake}
}

func symlink(t *testing.T, from, to string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(from, to); err != nil {
		t.Fatal(err)
	}
}

func put(t *testing.T, path, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

// The kernel's image says the same of its exports as Module.symvers.
func TestExportsOfImage(t *testing.T) {
	k := installed(t)
	e, err := compat.ReadExports(k, kpatchtest.Release)
	if err != nil {
		t.Fatal(err)
	}
	if !e.Whole || !strings.Contains(e.From, "vmlinuz") {
		t.Errorf("from %s, whole %v", e.From, e.Whole)
	}
	tree, err := kbuild.Open(t.Context(), kbuild.Options{Release: kpatchtest.Release})
	if err != nil {
		t.Fatal(err)
	}
	all, err := tree.ModuleSymvers()
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for name, want := range all {
		if want.Module != "vmlinux" {
			continue
		}
		n++
		if got, ok := e.CRC[name]; !ok || got != want.CRC {
			t.Errorf("%s: %#08x (%v), want %#08x", name, got, ok, want.CRC)
		}
	}
	if n < 10000 || len(e.Names) != n {
		t.Errorf("%d symbols in Module.symvers, %d in the image", n, len(e.Names))
	}
}

// Drivers of the distribution's source against those that it ships.
func TestRealDrivers(t *testing.T) {
	k := installed(t)
	for module, variants := range map[string]map[string]string{ // variant → refused with
		"e1000":      {shadowtest.Same: "", shadowtest.Grown: "", shadowtest.NoLoad: "lupatch_no_such_symbol", shadowtest.WrongVermagic: "it is for the kernel"},
		"virtio_net": {shadowtest.Newer: ""},
	} {
		old, err := compat.Shipped(k, module)
		if err != nil {
			t.Fatal(err)
		}
		for variant, want := range variants {
			target, err := compat.ReadTarget(k, old)
			if err != nil {
				t.Fatal(err)
			}
			path := shadowtest.Driver(t, kpatchtest.Release, module, variant)
			file, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			new, err := compat.NewImage(path, file)
			if err != nil {
				t.Fatal(err)
			}
			l, err := compat.Check(old, new, target)
			if err != nil {
				t.Fatal(err)
			}
			refused := ""
			if err := compat.Refusal(l); err != nil {
				refused = err.Error()
			}
			if (refused == "") != (want == "") || !strings.Contains(refused, want) {
				t.Errorf("%s %s: %q, want %q", module, variant, refused, want)
			}
			room := ""
			for _, f := range l {
				room += f.Detail
			}
			if strings.Contains(room, "bytes behind each network device") != (variant == shadowtest.Grown) {
				t.Errorf("%s %s: %q", module, variant, room)
			}
			if needs, err := target.Needs(new); err != nil || len(needs) != map[string]int{"e1000": 0, "virtio_net": 4}[module] {
				t.Errorf("%s %s needs %v, %v", module, variant, needs, err)
			}
		}
	}
}
