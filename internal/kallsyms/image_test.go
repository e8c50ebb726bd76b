// SPDX-License-Identifier: Apache-2.0

package kallsyms

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func read(t testing.TB, b []byte) (*Image, error) {
	t.Helper()
	return ReadImage(bytes.NewReader(b), int64(len(b)))
}

func TestLayouts(t *testing.T) {
	for _, l := range layouts {
		t.Run(l.name, func(t *testing.T) {
			want := testSymbols(!l.plain)
			b, _ := testTables(want, l)
			im, err := read(t, testELF(b))
			if err != nil {
				t.Fatal(err)
			}
			tab, err := im.Symbols()
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(want, tab.Symbols()); d != "" {
				t.Error(d)
			}
			if im.BuildID != "deadbeef" || im.Compression != "none" {
				t.Errorf("build id %q, compression %q", im.BuildID, im.Compression)
			}
			if s, err := im.Banner(); s != "Linux version" {
				t.Errorf("banner %q, %v", s, err)
			}
		})
	}
}

// A table that is damaged anywhere must be noticed by another table: a wrong
// address would be worse than none.
func TestDamagedTables(t *testing.T) {
	for _, l := range layouts {
		syms := testSymbols(!l.plain)
		good, at := testTables(syms, l)
		for _, c := range []struct {
			table string
			off   int
		}{
			{"count", 0}, {"names", 0}, {"length", 0}, {"markers", 4}, {"tokens", 2}, {"index", 100},
			{"offsets", 4*700 + 2}, {"addresses", 8*700 + 3}, {"base", 1}, {"base", 7},
		} {
			o, ok := at[c.table]
			if !ok {
				continue
			}
			b := bytes.Clone(good)
			b[o+c.off] ^= 0x55
			im, err := read(t, testELF(b))
			if err != nil {
				t.Fatal(err)
			}
			tab, err := im.Symbols()
			if !errors.Is(err, ErrNoTables) || tab != nil {
				t.Errorf("%s: byte %d of %s changed: no error", l.name, c.off, c.table)
			}
		}
	}
}

func TestCutOff(t *testing.T) {
	b, _ := testTables(testSymbols(true), layouts[0])
	whole := testELF(b)
	for n := 0; n < len(whole); n += 997 {
		im, err := read(t, whole[:n])
		if err != nil {
			continue
		}
		if tab, err := im.Symbols(); err == nil && tab.Len() != len(testSymbols(true)) {
			t.Errorf("%d of %d bytes gave %d symbols", n, len(whole), tab.Len())
		}
	}
}

func TestNotAnImage(t *testing.T) {
	b, _ := testTables(testSymbols(true), layouts[0])
	vm := testELF(b)
	bz := func(change func([]byte)) []byte {
		b := testBz(gz(vm))
		change(b)
		return b
	}
	object := bytes.Clone(vm)
	object[16] = 1 // ET_REL
	arm := bytes.Clone(vm)
	arm[18] = 183
	for name, c := range map[string]struct {
		in   []byte
		want string
	}{
		"empty":            {nil, "not plausible"},
		"text":             {bytes.Repeat([]byte("no kernel "), 200), "neither an ELF file nor a bzImage"},
		"object file":      {object, "not a linked kernel"},
		"another machine":  {arm, "not an x86-64 kernel"},
		"old protocol":     {bz(func(b []byte) { b[bootVersion] = 7; b[bootVersion+1] = 2 }), "names no payload"},
		"payload outside":  {bz(func(b []byte) { b[bootPayloadLength+3] = 0x7f }), "not inside"},
		"no payload":       {bz(func(b []byte) { copy(b[bootPayloadLength:], "\x00\x00\x00\x00") }), "not inside"},
		"strange payload":  {testBz([]byte("something else entirely")), "no compression known"},
		"damaged payload":  {bz(func(b []byte) { b[len(b)-3000] ^= 0xff }), "unpacking the gzip payload"},
		"payload cut off":  {testBz(gz(vm)[:1000]), "unpacking the gzip payload"},
		"payload no ELF":   {testBz(gz(bytes.Repeat([]byte("x"), 4000))), "not an ELF file"},
		"claims too much":  {testBz(append(gz(vm), 0xff, 0xff, 0xff, 0xff)), "claims to unpack"},
		"claims too few":   {testBz(append(gz(vm), 0x10, 0, 0, 0)), "announced"},
		"uncompressed ELF": {testBz(vm), ""},
	} {
		im, err := read(t, c.in)
		if c.want == "" {
			if err != nil || !bytes.Equal(im.Raw, vm) {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		if err == nil || im != nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want %q", name, err, c.want)
		}
	}
}

func TestReadAt(t *testing.T) {
	b, _ := testTables(testSymbols(true), layouts[0])
	im, err := read(t, testELF(b))
	if err != nil {
		t.Fatal(err)
	}
	got, err := im.ReadAt(testBase+0xfff0, 24) // ends in memory that the file lacks
	if err != nil || string(got) != "Linux version \x00\x00\x00\x00\x00\x00\x00\x00\x00\x00" {
		t.Errorf("%q, %v", got, err)
	}
	for _, c := range []struct {
		addr uint64
		n    int
	}{{testBase - 1, 1}, {testBase + 0x11000, 1}, {testBase + 0x10fff, 2}, {testBase, 0x11001}, {0, 1}, {testBase, -1}} {
		if b, err := im.ReadAt(c.addr, c.n); err == nil || b != nil {
			t.Errorf("%d bytes at %#x: no error", c.n, c.addr)
		}
	}
}

func TestOpenKeepsVmlinux(t *testing.T) {
	cache := t.TempDir()
	t.Setenv("XDG_CACHE_HOME", cache)
	b, _ := testTables(testSymbols(true), layouts[0])
	file := filepath.Join(t.TempDir(), "vmlinuz")
	if err := os.WriteFile(file, testBz(gz(testELF(b))), 0o644); err != nil {
		t.Fatal(err)
	}
	first, err := Open(file)
	if err != nil {
		t.Fatal(err)
	}
	kept, _ := filepath.Glob(filepath.Join(cache, "lupatch/vmlinux/*"))
	if len(kept) != 1 {
		t.Fatalf("kept: %v", kept)
	}
	for _, damage := range []bool{false, true} {
		if damage { // a damaged cache is not believed, and repaired
			k, _ := os.ReadFile(kept[0])
			k[len(k)/2] ^= 1
			if err := os.WriteFile(kept[0], k, 0o644); err != nil {
				t.Fatal(err)
			}
			if _, ok := fromCache(kept[0]); ok {
				t.Error("a damaged file was believed")
			}
		}
		im, err := Open(file)
		if err != nil || !bytes.Equal(im.Raw, first.Raw) || im.Compression != "gzip" {
			t.Errorf("damaged %v: %v", damage, err)
		}
		if _, ok := fromCache(kept[0]); !ok {
			t.Error("the cache cannot be read")
		}
	}
	// No place to keep it is no reason to fail.
	t.Setenv("XDG_CACHE_HOME", "/dev/null/none")
	if _, err := Open(file); err != nil {
		t.Error(err)
	}
	if _, err := Open(file + ".not"); !os.IsNotExist(errors.Unwrap(err)) {
		t.Errorf("%v", err)
	}
}
