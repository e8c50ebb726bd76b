// SPDX-License-Identifier: Apache-2.0

package kallsyms

import (
	"bytes"
	"strings"
	"testing"
)

func FuzzReadImage(f *testing.F) {
	for _, l := range layouts[:2] {
		b, _ := testTables(testSymbols(true), l)
		vm := testELF(b)
		f.Add(vm)
		f.Add(testBz(gz(vm)))
	}
	f.Add(testBz([]byte(lzopMagic + "\x10\x40\x20\xa0\x09\x40\x03\x09\x03\x00\x00\x01\x00\x00\x81\xa4")))
	f.Add(testBz([]byte("\xfd7zXZ\x00\x00\x01")))
	f.Fuzz(func(t *testing.T, b []byte) {
		// The claim of a size is the one thing that may cost memory.
		im, err := ReadImage(bytes.NewReader(b), int64(len(b)))
		if (err == nil) == (im == nil) {
			t.Fatal("neither a result nor an error")
		}
		if err != nil {
			return
		}
		checkImage(t, im)
	})
}

// FuzzTables changes only the tables, so that the fuzzer gets to them.
func FuzzTables(f *testing.F) {
	for _, l := range layouts {
		b, _ := testTables(testSymbols(!l.plain)[:minSymbols+200], l)
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		im, err := read(t, testELF(b))
		if err != nil {
			t.Fatal(err)
		}
		checkImage(t, im)
	})
}

func checkImage(t *testing.T, im *Image) {
	tab, err := im.Symbols()
	if err != nil {
		return
	}
	last := uint64(0)
	for _, s := range tab.Symbols() {
		if s.Addr < last || s.Name == "" {
			t.Fatalf("%+v after %#x", s, last)
		}
		last = s.Addr
	}
	if len(tab.Lookup("_text")) == 0 {
		t.Fatal("tables without _text passed")
	}
	im.Banner()
}

func FuzzReadProc(f *testing.F) {
	f.Add("ffffffff81000000 T _text\nffffffffc0001000 t e1000_probe\t[e1000]\n")
	f.Add("0 T a\n")
	f.Fuzz(func(t *testing.T, s string) {
		tab, err := ReadProc(strings.NewReader(s))
		if (err == nil) == (tab == nil) {
			t.Fatal("neither a result nor an error")
		}
		if err == nil && tab.Len() != strings.Count(strings.TrimSuffix(s, "\n"), "\n")+1 {
			t.Fatalf("%d symbols", tab.Len())
		}
	})
}
