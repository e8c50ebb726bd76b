// SPDX-License-Identifier: Apache-2.0

package kbuild

import (
	"bytes"
	"debug/elf"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/lupatch/lupatch/internal/refuse"
)

// The checksums are the strongest test of flags and configuration there is
// without a look at the code: a digest over all types a symbol's interface has.
func TestRealExportCRC(t *testing.T) {
	tr := realTree(t)
	want, err := tr.ModuleSymvers()
	if err != nil || len(want) < 20000 {
		t.Fatalf("%d exports, %v", len(want), err)
	}
	const src = "net/ethernet/eth.c"
	u := tu(t, tr, src)
	got, err := tr.ExportCRC(t.Context(), u, nil)
	if err != nil || len(got) < 15 {
		t.Fatalf("%v, %v", got, err)
	}
	for name, crc := range got {
		if want[name].CRC != crc {
			t.Errorf("%s: %#x, Module.symvers has %#x", name, crc, want[name].CRC)
		}
	}
	const (
		header   = "include/linux/etherdevice.h"
		old, new = "int eth_mac_addr(struct net_device *dev, void *p)", "int eth_mac_addr(struct net_device *dev, char *p)"
	)
	ov := overlay(t, tr, map[string][]byte{src: edit(t, tr, src, old, new), header: edit(t, tr, header, old, new)})
	changed, err := tr.ExportCRC(t.Context(), u, ov)
	if err != nil || len(changed) != len(got) {
		t.Fatalf("%v, %v", changed, err)
	}
	for name, crc := range changed {
		if (crc != got[name]) != (name == "eth_mac_addr") {
			t.Errorf("changed prototype of eth_mac_addr: %s is %#x, was %#x", name, crc, got[name])
		}
	}
}

func TestRealLinkModule(t *testing.T) {
	tr := realTree(t)
	o, err := tr.Compile(t.Context(), Job{TU: tu(t, tr, meminfo), Flavor: Sections})
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	b, _ := os.ReadFile(o.Path)
	for name, text := range map[string]string{
		"Kbuild":            "obj-m := lupatch_x.o\nlupatch_x-objs := main.o patched.o\n",
		"main.c":            "#include <linux/module.h>\nstatic int __init x_init(void) { return 0; }\nmodule_init(x_init);\nMODULE_LICENSE(\"GPL\");\nMODULE_INFO(livepatch, \"Y\");\n",
		"patched.o_shipped": string(b),
		".patched.o.cmd":    "",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	begin := time.Now()
	ko, err := tr.LinkModule(t.Context(), dir, "lupatch_x")
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("linked in %v", time.Since(begin).Round(time.Millisecond))
	f, err := elf.Open(ko)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	info, _ := f.Section(".modinfo").Data()
	if !bytes.Contains(info, []byte("vermagic="+testRelease+" SMP preempt mod_unload modversions")) {
		t.Errorf("modinfo %q", info)
	}
	if f.Section("__versions") == nil || f.Section(".BTF") != nil || f.Section(".text.meminfo_proc_show") == nil {
		t.Error("sections are not those of a livepatch")
	}
	if err := os.WriteFile(filepath.Join(dir, "main.c"), []byte("#error nonsense\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	ko, err = tr.LinkModule(t.Context(), dir, "lupatch_x")
	wantRefusal(t, err, refuse.CompileFailed, "nonsense")
	if ko != "" || exists(filepath.Join(dir, "lupatch_x.ko")) {
		t.Error("the module of the run before is still there")
	}
}

func TestRealShipped(t *testing.T) {
	tr := realTree(t)
	ko, err := tr.Shipped(t.Context(), "snd_hda_codec")
	if err != nil || filepath.Base(ko) != "snd-hda-codec.ko" {
		t.Errorf("%s, %v", ko, err)
	}
	if img, err := tr.Shipped(t.Context(), Vmlinux); err != nil || filepath.Base(img) != "vmlinuz-"+testRelease {
		t.Errorf("%s, %v", img, err)
	}
}
