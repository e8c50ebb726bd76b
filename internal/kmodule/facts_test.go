// SPDX-License-Identifier: Apache-2.0

package kmodule_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lupatch/lupatch/internal/kmodule"
	"github.com/lupatch/lupatch/kpatch/kpatchtest"
)

func TestExamine(t *testing.T) {
	d := kpatchtest.Driver{Name: "e1000", Release: "6.1.0", Salt: "x", Imports: map[string]uint32{"_printk": 7, "register_netdev": 9}, Exports: []string{"e1000_x"}, Info: []string{"parmtype=debug:int", "firmware=a/b.bin"}}
	f, err := kmodule.Examine(d.Image())
	if err != nil {
		t.Fatal(err)
	}
	want := &kmodule.Facts{BuildID: kpatchtest.BuildID("e1000x"), Imports: []kmodule.Import{{Name: "_printk", CRC: 7, HasCRC: true}, {Name: "register_netdev", CRC: 9, HasCRC: true}}, Exports: map[string]uint32{"e1000_x": 0}}
	if diff := cmp.Diff(want, f); diff != "" {
		t.Error(diff)
	}
	info, err := kmodule.ParseInfo(d.Image())
	if err != nil || !slices.Equal(info.Params, []string{"debug"}) || !slices.Equal(info.Firmware, []string{"a/b.bin"}) {
		t.Errorf("%+v, %v", info, err)
	}
	for _, bad := range [][]byte{nil, []byte("\x7fELF"), d.Image()[:300]} {
		if f, err := kmodule.Examine(bad); err == nil {
			t.Errorf("%d bytes: %+v", len(bad), f)
		}
	}
}

// The room behind a network device is in the code.
func TestPrivate(t *testing.T) {
	for name, c := range map[string]struct {
		code string
		want uint64
	}{
		"constant":  {"void *alloc_etherdev_mqs(int, unsigned, unsigned); void *f(void) { return alloc_etherdev_mqs(2480, 1, 1); }", 2480},
		"endbr":     {"void *alloc_etherdev_mqs(int, unsigned, unsigned); void *f(void) { __asm__(\".byte 0xf3, 0x0f, 0x1e, 0xfa\"); return alloc_etherdev_mqs(96, 1, 1); }", 96},
		"devm":      {"void *devm_alloc_etherdev_mqs(void *, int, unsigned, unsigned); void *f(void *d) { return devm_alloc_etherdev_mqs(d, 512, 1, 1); }", 512},
		"largest":   {"void *alloc_netdev_mqs(int, char *); void *f(void) { return alloc_netdev_mqs(8, \"a\"); } void *g(void) { return alloc_netdev_mqs(64, \"a\"); }", 64},
		"computed":  {"void *alloc_etherdev_mqs(int, unsigned, unsigned); void *f(int n) { return alloc_etherdev_mqs(n * 24, 1, 1); }", 0},
		"no device": {"void g(void); void f(void) { g(); }", 0},
	} {
		dir := t.TempDir()
		src, obj := filepath.Join(dir, "x.c"), filepath.Join(dir, "x.o")
		if err := os.WriteFile(src, []byte(c.code), 0o600); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command("gcc", "-O2", "-fno-pic", "-mcmodel=kernel", "-fcf-protection=none", "-c", "-o", obj, src).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		image, err := os.ReadFile(obj)
		if err != nil {
			t.Fatal(err)
		}
		f, err := kmodule.Examine(image)
		if err != nil || f.Private != c.want {
			t.Errorf("%s: %+v, %v; want %d", name, f, err, c.want)
		}
	}
}

func FuzzExamine(f *testing.F) {
	f.Add(kpatchtest.Driver{Name: "e1000", Release: "6.1.0", Imports: map[string]uint32{"alloc_etherdev_mqs": 7}}.Image())
	f.Fuzz(func(t *testing.T, b []byte) {
		if facts, err := kmodule.Examine(b); (facts == nil) == (err == nil) {
			t.Error(facts, err)
		}
	})
}
