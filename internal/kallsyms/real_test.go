// SPDX-License-Identifier: Apache-2.0

package kallsyms_test

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/lupatch/lupatch/internal/deb"
	"github.com/lupatch/lupatch/internal/kallsyms"
)

// vmlinuz fetches the image package of a distribution kernel and gives its
// image; an empty release means the newest of the series.
func vmlinuz(t testing.TB, series, release string) (path, rel, version string) {
	t.Helper()
	if testing.Short() {
		t.Skip("downloads a kernel package")
	}
	c, err := deb.New("")
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	if release == "" {
		if release, version, err = c.NewestKernel(ctx, series); err != nil {
			t.Fatal(err)
		}
	} else {
		vs, err := c.Versions(ctx, "linux-image-"+release)
		if err != nil || len(vs) == 0 {
			t.Fatalf("versions of %s: %v %v", release, vs, err)
		}
		version = vs[0]
	}
	dir, err := c.Unpack(ctx, "linux-image-"+release, version, "boot")
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, "boot/vmlinuz-"+release), release, version
}

func TestRealKernels(t *testing.T) {
	for _, c := range []struct {
		series, release, compression string
		count                        int // 0: it differs from release to release
	}{
		{"6.1", "6.1.0-47-amd64", "xz", 94105},
		{"6.12", "", "zstd", 0}, // the later order of tables, aligned to 4
	} {
		t.Run(c.series, func(t *testing.T) {
			path, release, version := vmlinuz(t, c.series, c.release)
			im, err := kallsyms.Open(path)
			if err != nil {
				t.Fatal(err)
			}
			tab, err := im.Symbols()
			if err != nil {
				t.Fatal(err)
			}
			banner, err := im.Banner()
			if err != nil || !strings.HasPrefix(banner, "Linux version "+release+" ") || !strings.Contains(banner, version) {
				t.Errorf("banner %q, %v", banner, err)
			}
			if im.Compression != c.compression || len(im.BuildID) != 40 {
				t.Errorf("%s, build id %q", im.Compression, im.BuildID)
			}
			if n := tab.Len(); n < 90000 || c.count != 0 && n != c.count {
				t.Errorf("%d symbols", n)
			}
			syms := tab.Symbols()
			if !slices.IsSortedFunc(syms, func(a, b kallsyms.Symbol) int {
				if a.Addr < b.Addr {
					return -1
				}
				return int(min(a.Addr-b.Addr, 1))
			}) {
				t.Error("not in the order of addresses")
			}
			for name, typ := range map[string]byte{
				"_text": 'T', "_etext": 'T', "_end": 'B', "meminfo_proc_show": 't', "schedule": 'T', "__fentry__": 'T',
				"jiffies": 'D', "init_task": 'D', "linux_banner": 'D', "__x64_sys_read": 'T', "klp_enable_patch": 'T',
			} {
				s := tab.Lookup(name)
				if len(s) != 1 || s[0].Type|0x20 != typ|0x20 {
					t.Errorf("%s: %+v, want type %c", name, s, typ)
				}
			}
			checkText(t, im, tab)
			checkNamesakes(t, tab)
			t.Logf("%s: %d symbols, vmlinux of %d bytes", release, tab.Len(), len(im.Raw))
		})
	}
}

// checkText says whether addresses are those of code: with CONFIG_FUNCTION_TRACER
// a function that can be traced begins with a call, after an ENDBR on kernels
// with IBT. A table that is off by anything fails for nearly all.
func checkText(t *testing.T, im *kallsyms.Image, tab *kallsyms.Table) {
	t.Helper()
	var calls, all int
	for _, s := range tab.Symbols() {
		if !strings.HasPrefix(s.Name, "__x64_sys_") {
			continue
		}
		b, err := im.ReadAt(s.Addr, 9)
		if err != nil {
			t.Fatal(err)
		}
		all++
		if b[0] == 0xe8 || string(b[:5]) == "\xf3\x0f\x1e\xfa\xe8" {
			calls++
		}
	}
	if all < 300 || calls < all*95/100 {
		t.Errorf("%d of %d system calls begin with a call to __fentry__", calls, all)
	}
}

// checkNamesakes follows every ambiguous name through Lookup and Sympos.
func checkNamesakes(t *testing.T, tab *kallsyms.Table) {
	t.Helper()
	ambiguous := 0
	seen := map[string]bool{}
	for _, s := range tab.Symbols() {
		if seen[s.Name] {
			continue
		}
		seen[s.Name] = true
		twins := tab.Lookup(s.Name)
		for i, w := range twins {
			pos, n := tab.Sympos(w.Name, w.Addr)
			switch {
			case n != len(twins):
				t.Fatalf("%s: %d namesakes, Lookup has %d", w.Name, n, len(twins))
			case n == 1 && pos != 0:
				t.Fatalf("%s is unique and at position %d", w.Name, pos)
			case n > 1 && twins[pos-1].Addr != w.Addr:
				t.Fatalf("%s number %d: position %d is another", w.Name, i+1, pos)
			}
		}
		if len(twins) > 1 {
			ambiguous++
		}
	}
	if ambiguous < 500 {
		t.Errorf("%d ambiguous names: a kernel has more", ambiguous)
	}
}

func BenchmarkOpenKept(b *testing.B) {
	path, _, _ := vmlinuz(b, "6.1", "6.1.0-47-amd64")
	for b.Loop() {
		if _, err := kallsyms.Open(path); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkUnpack(b *testing.B) {
	path, _, _ := vmlinuz(b, "6.1", "6.1.0-47-amd64")
	for b.Loop() {
		b.StopTimer()
		b.Setenv("XDG_CACHE_HOME", b.TempDir())
		b.StartTimer()
		if _, err := kallsyms.Open(path); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkSymbols(b *testing.B) {
	path, _, _ := vmlinuz(b, "6.1", "6.1.0-47-amd64")
	for b.Loop() {
		b.StopTimer()
		im, err := kallsyms.Open(path)
		if err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
		if _, err := im.Symbols(); err != nil {
			b.Fatal(err)
		}
	}
}
