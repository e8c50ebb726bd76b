// SPDX-License-Identifier: Apache-2.0

package kbuild

import (
	"bytes"
	"context"
	"debug/elf"
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
	_, err := tr.Shipped(t.Context(), "no_such_module")
	wantRefusal(t, err, refuse.SourceUnavailable, "no such module")
	_, err = Open(t.Context(), Options{Release: "6.1.0-4711-amd64"})
	wantRefusal(t, err, refuse.SourceUnavailable, "6.1.0-4711-amd64")
	_, err = Open(t.Context(), Options{Release: "nonsense"})
	wantRefusal(t, err, refuse.SourceUnavailable, "not a kernel release")
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
	left, _ := filepath.Glob(filepath.Join(tr.cache, "objects/*/"+workPrefix()+"*"))
	if len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}
