// SPDX-License-Identifier: Apache-2.0

package kbuild

import (
	"bytes"
	"context"
	"debug/elf"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lupatch/lupatch/internal/refuse"
)

const (
	testRelease = "6.1.0-47-amd64"
	e1000Main   = "drivers/net/ethernet/intel/e1000/e1000_main.c"
	meminfo     = "fs/proc/meminfo.c"
)

var shared struct {
	sync.Once
	tree  *Tree
	start time.Time
	err   error
}

// realTree is the source of a distribution kernel, prepared once in the user's
// cache.
func realTree(t *testing.T) *Tree {
	t.Helper()
	if testing.Short() {
		t.Skip("downloads and unpacks a kernel's source")
	}
	shared.Do(func() {
		begin := time.Now()
		shared.tree, shared.err = Open(context.Background(), Options{Release: testRelease})
		shared.start = time.Now()
		t.Logf("source prepared in %v", time.Since(begin).Round(time.Millisecond))
	})
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	return shared.tree
}

func tu(t *testing.T, tr *Tree, src string) *TU {
	t.Helper()
	u, err := tr.TU(t.Context(), src)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// edit gives a file of the tree with a text replaced.
func edit(t *testing.T, tr *Tree, rel, old, new string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(tr.Src, rel))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(b, []byte(old)) {
		t.Fatalf("%s has no %q", rel, old)
	}
	return bytes.Replace(b, []byte(old), []byte(new), 1)
}

func overlay(t *testing.T, tr *Tree, changed map[string][]byte) *Overlay {
	t.Helper()
	ov, err := tr.Overlay(changed)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ov.Close() })
	return ov
}

// code is what of an object ends up in memory, by section.
func code(t *testing.T, path string) map[string]string {
	t.Helper()
	f, err := elf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	out := map[string]string{}
	for _, s := range f.Sections {
		if s.Flags&elf.SHF_ALLOC != 0 && s.Type == elf.SHT_PROGBITS {
			b, err := s.Data()
			if err != nil {
				t.Fatal(err)
			}
			out[s.Name] += string(b)
		}
	}
	return out
}

func wantRefusal(t *testing.T, err error, id refuse.ID, text string) {
	t.Helper()
	r, ok := refuse.As(err)
	if !ok || r.ID != id || !strings.Contains(r.Error()+" "+r.Advice(), text) {
		t.Errorf("error %v, want %s with %q", err, id, text)
	}
}

func TestRealUnits(t *testing.T) {
	tr := realTree(t)
	for src, want := range map[string]struct{ unit, module, object string }{
		e1000Main:                   {"e1000", "drivers/net/ethernet/intel/e1000/e1000", ""},
		meminfo:                     {Vmlinux, "", ""},
		"fs/xfs/libxfs/xfs_alloc.c": {"xfs", "fs/xfs/xfs", ""}, // by the makefile above
		"drivers/gpu/drm/amd/display/dc/core/dc.c": {"amdgpu", "drivers/gpu/drm/amd/amdgpu/amdgpu", ""}, // by one beside
		"sound/pci/hda/hda_codec.c":                {"snd_hda_codec", "sound/pci/hda/snd-hda-codec", ""},
		"virt/kvm/kvm_main.c":                      {"kvm", "arch/x86/kvm/kvm", ""},
		"kernel/fork.c":                            {Vmlinux, "", ""},
		"arch/x86/kernel/process_64.c":             {Vmlinux, "", ""},
		"net/socket.c":                             {Vmlinux, "", ""}, // a whole subsystem below it
	} {
		u := tu(t, tr, src)
		if u.Unit != want.unit || u.Module != want.module || u.Source != src || u.Object != strings.TrimSuffix(src, ".c")+".o" {
			t.Errorf("%s: %s %s %s %s", src, u.Unit, u.Module, u.Source, u.Object)
		}
		if slices.Contains(u.Compile, "-DMODULE") != (want.unit != Vmlinux) || len(u.Objtool) != 1 {
			t.Errorf("%s: %q %q", src, u.Compile, u.Objtool)
		}
	}
	units, err := tr.UnitTUs(t.Context(), tu(t, tr, e1000Main))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, u := range units {
		got = append(got, filepath.Base(u.Source))
	}
	if want := []string{"e1000_main.c", "e1000_hw.c", "e1000_ethtool.c", "e1000_param.c"}; !slices.Equal(got, want) {
		t.Errorf("files of e1000: %v", got)
	}
	if units, err = tr.UnitTUs(t.Context(), tu(t, tr, "fs/xfs/libxfs/xfs_alloc.c")); err != nil || len(units) < 80 {
		t.Errorf("files of xfs: %d, %v", len(units), err)
	}
	if _, err := tr.UnitTUs(t.Context(), tu(t, tr, meminfo)); err == nil {
		t.Error("all files of vmlinux: no error")
	}
}

func TestRealRefused(t *testing.T) {
	tr := realTree(t)
	for src, text := range map[string]string{
		"drivers/net/ethernet/intel/e1000/Makefile": "not a C file",
		"fs/proc/nommu_none.c":                      "no such file",
		"drivers/net/ethernet/cirrus/mac89x0.c":     "does not build",
		"kernel/sched/rt.c":                         "does not build this file by itself",
		"lib/none/x.c":                              "no such file",
	} {
		u, err := tr.TU(t.Context(), src)
		if u != nil {
			t.Errorf("%s: %+v", src, u)
		}
		wantRefusal(t, err, refuse.PatchScope, text)
	}
	for _, h := range []string{"include/linux/skbuff.h", "arch/x86/include/asm/desc.h"} {
		_, err := tr.Dependents(t.Context(), h)
		wantRefusal(t, err, refuse.HeaderScope, "whole kernel")
	}
	_, err := tr.Dependents(t.Context(), "drivers/net/ethernet/intel/e1000/none.h")
	wantRefusal(t, err, refuse.HeaderScope, "no file")
	_, err = tr.Shipped(t.Context(), "no_such_module")
	wantRefusal(t, err, refuse.SourceUnavailable, "no such module")
	_, err = Open(t.Context(), Options{Release: "6.1.0-4711-amd64"})
	wantRefusal(t, err, refuse.SourceUnavailable, "6.1.0-4711-amd64")
	_, err = Open(t.Context(), Options{Release: "nonsense"})
	wantRefusal(t, err, refuse.SourceUnavailable, "not a kernel release")
}

func TestRealCompile(t *testing.T) {
	tr := realTree(t)
	for _, src := range []string{e1000Main, meminfo} {
		u := tu(t, tr, src)
		for _, fl := range []Flavor{Shipped, Sections} {
			o, err := tr.Compile(t.Context(), Job{TU: u, Flavor: fl})
			if err != nil {
				t.Fatal(err)
			}
			again, err := tr.Compile(t.Context(), Job{TU: u, Flavor: fl})
			if err != nil || !again.Cached || again.Path != o.Path {
				t.Errorf("%s again: %+v, %v", src, again, err)
			}
			t.Logf("%s %s: %v (cached %v), then %v", src, fl, o.Took.Round(time.Millisecond), o.Cached, again.Took.Round(time.Millisecond))
			sections := code(t, o.Path)
			if _, ok := sections[".orc_unwind"]; !ok {
				t.Errorf("%s: objtool did not run: %d sections", src, len(sections))
			}
			if _, ok := sections[".text.meminfo_proc_show"]; src == meminfo && ok != (fl == Sections) {
				t.Errorf("%s: a section for each function: %v", fl, ok)
			}
		}
	}
	// A change that is none gives the object that is there: where the overlay
	// lies makes no difference.
	u := tu(t, tr, meminfo)
	plain, err := tr.Compile(t.Context(), Job{TU: u, Flavor: Sections})
	if err != nil {
		t.Fatal(err)
	}
	ov := overlay(t, tr, map[string][]byte{meminfo: edit(t, tr, meminfo, "MemTotal", "MemTotal")})
	same, err := tr.Compile(t.Context(), Job{TU: u, Flavor: Sections, Overlay: ov})
	if err != nil || same.Key != plain.Key || !same.Cached {
		t.Errorf("unchanged under an overlay: %+v, %v", same, err)
	}
	ov = overlay(t, tr, map[string][]byte{meminfo: edit(t, tr, meminfo, "MemTotal", "LpTotal!")})
	other, err := tr.Compile(t.Context(), Job{TU: u, Flavor: Sections, Overlay: ov})
	if err != nil || other.Key == plain.Key {
		t.Fatalf("changed: %+v, %v", other, err)
	}
	b, _ := os.ReadFile(other.Path)
	if !bytes.Contains(b, []byte("LpTotal!")) || bytes.Contains(b, []byte(ov.Root)) {
		t.Error("the object has not the change, or names the overlay")
	}
	// Other flags, other object.
	extra, err := tr.Compile(t.Context(), Job{TU: u, Flavor: Sections, ExtraFlags: []string{"-O1"}})
	if err != nil || extra.Key == plain.Key || code(t, extra.Path)[".text.meminfo_proc_show"] == code(t, plain.Path)[".text.meminfo_proc_show"] {
		t.Errorf("-O1: %v", err)
	}
	if _, err := tr.Compile(t.Context(), Job{TU: u, Flavor: "none"}); err == nil {
		t.Error("no such flavor: no error")
	}
}

// __FILE__ must read as it does in the shipped binary, overlay or not.
func TestRealFileMacro(t *testing.T) {
	tr := realTree(t)
	const src = "drivers/net/ethernet/intel/e1000/e1000_hw.c"
	ov := overlay(t, tr, map[string][]byte{src: append(edit(t, tr, src, "", ""), []byte("\nconst char *lupatch_file = __FILE__;\n")...)})
	o, err := tr.Compile(t.Context(), Job{TU: tu(t, tr, src), Flavor: Shipped, Overlay: ov})
	if err != nil {
		t.Fatal(err)
	}
	found := false
	for _, b := range code(t, o.Path) {
		found = found || strings.Contains(b, "\x00"+src+"\x00") || strings.HasPrefix(b, src+"\x00")
	}
	if !found {
		t.Error("__FILE__ is not relative to the tree")
	}
}

func TestRealCompileError(t *testing.T) {
	tr := realTree(t)
	u := tu(t, tr, meminfo)
	ov := overlay(t, tr, map[string][]byte{meminfo: edit(t, tr, meminfo, "return 0;", "return no_such_thing;")})
	_, err := tr.Compile(t.Context(), Job{TU: u, Flavor: Shipped, Overlay: ov})
	wantRefusal(t, err, refuse.CompileFailed, "no_such_thing")
	var ce *CompileError
	if !errors.As(err, &ce) || !strings.Contains(ce.Log, "fs/proc/meminfo.c:") || strings.Contains(ce.Log, ov.Root) || ce.Source != meminfo {
		t.Errorf("%+v", ce)
	}
	// The user's own typing error must not start half a minute of make prepare.
	ov = overlay(t, tr, map[string][]byte{meminfo: edit(t, tr, meminfo, "#include <linux/fs.h>", "#include <linux/fs_none.h>")})
	begin := time.Now()
	_, err = tr.Compile(t.Context(), Job{TU: u, Flavor: Shipped, Overlay: ov})
	wantRefusal(t, err, refuse.CompileFailed, "linux/fs_none.h")
	if time.Since(begin) > 10*time.Second {
		t.Errorf("it took %v to say so", time.Since(begin))
	}
	if objs, err := tr.CompileAll(t.Context(), []Job{{TU: u, Flavor: Shipped}, {TU: u, Flavor: Shipped, Overlay: ov}}); err == nil || objs != nil {
		t.Error("one of two fails: no error")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := tr.Compile(ctx, Job{TU: u, Flavor: Shipped}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

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

func TestRealDependents(t *testing.T) {
	tr := realTree(t)
	dir := "drivers/net/ethernet/intel/e1000/"
	got, err := tr.Dependents(t.Context(), dir+"e1000_hw.h")
	if err != nil || len(got) != 4 || got[0] != dir+"e1000_ethtool.c" {
		t.Errorf("%v, %v", got, err)
	}
	// A C file that is part of another.
	if got, err = tr.Dependents(t.Context(), "kernel/sched/rt.c"); err != nil || !slices.Equal(got, []string{"kernel/sched/build_policy.c"}) {
		t.Errorf("%v, %v", got, err)
	}
	u := tu(t, tr, dir+"e1000_param.c")
	a, err := tr.Preprocess(t.Context(), u, nil)
	if err != nil {
		t.Fatal(err)
	}
	h := dir + "e1000_hw.h"
	ov := overlay(t, tr, map[string][]byte{h: append(edit(t, tr, h, "", ""), []byte("/* a comment */\n")...)})
	if b, err := tr.Preprocess(t.Context(), u, ov); err != nil || !bytes.Equal(a, b) {
		t.Errorf("a comment changes the text: %v", err)
	}
	ov = overlay(t, tr, map[string][]byte{h: append(edit(t, tr, h, "", ""), []byte("int lupatch_seen;\n")...)})
	if b, err := tr.Preprocess(t.Context(), u, ov); err != nil || !bytes.Contains(b, []byte("lupatch_seen")) {
		t.Errorf("the changed header is not read: %v", err)
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

// Whatever ran before: nothing has been written to the source.
func TestRealZSourceUntouched(t *testing.T) {
	tr := realTree(t)
	n := 0
	err := filepath.WalkDir(tr.Src, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		n++
		st, err := d.Info()
		if err == nil && st.ModTime().After(shared.start) {
			t.Errorf("%s was written", p)
		}
		return err
	})
	if err != nil || n < 50000 {
		t.Errorf("%d files, %v", n, err)
	}
	left, _ := filepath.Glob(filepath.Join(tr.cache, "objects/*/.work-*"))
	if len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}
