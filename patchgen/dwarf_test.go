// SPDX-License-Identifier: Apache-2.0

package patchgen

import (
	"bytes"
	"debug/dwarf"
	"debug/elf"
	"encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"testing"
)

func debugObject(t *testing.T, flags ...string) []byte {
	t.Helper()
	c, o := filepath.Join(t.TempDir(), "unit.c"), filepath.Join(t.TempDir(), "unit.o")
	const source = `
#include <stddef.h>
struct s { int a, b; struct s *next; };
static int twice(struct s *s) { return s->a * 2; }
int f(struct s *s) { return twice(s->next) + s->b; }
int g(void) { static struct s one; return f(&one); }
`
	if err := os.WriteFile(c, []byte(source), 0o644); err != nil {
		t.Fatal(err)
	}
	args := append([]string{"-O2", "-g", "-ffunction-sections", "-c", "-o", o, c}, flags...)
	if out, err := exec.Command("gcc", args...).CombinedOutput(); err != nil {
		t.Fatalf("gcc: %v\n%s", err, out)
	}
	b, err := os.ReadFile(o)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// entriesOf lists all entries, and the source files of the lines.
func entriesOf(t *testing.T, d *dwarf.Data) (all []*dwarf.Entry, files []*dwarf.LineFile) {
	t.Helper()
	for r := d.Reader(); ; {
		e, err := r.Next()
		if err != nil {
			t.Fatal(err)
		}
		if e == nil {
			return all, files
		}
		if e.Tag == dwarf.TagCompileUnit {
			lr, err := d.LineReader(e)
			if err != nil {
				t.Fatal(err)
			}
			files = append(files, lr.Files()...)
		}
		all = append(all, e)
	}
}

// What is read is what the library reads, which carries out all relocations.
func TestReadDWARF(t *testing.T) {
	for _, flags := range [][]string{nil, {"-gdwarf-4"}, {"-gz=zlib"}, {"-fdebug-types-section"}} {
		obj := debugObject(t, flags...)
		d, err := readDWARF(obj)
		if err != nil {
			t.Fatalf("%v: %v", flags, err)
		}
		f, err := elf.NewFile(bytes.NewReader(obj))
		if err != nil {
			t.Fatal(err)
		}
		want, err := f.DWARF()
		if err != nil {
			t.Fatal(err)
		}
		gotE, gotF := entriesOf(t, d)
		wantE, wantF := entriesOf(t, want)
		if len(gotE) < 20 || !reflect.DeepEqual(gotE, wantE) || !reflect.DeepEqual(gotF, wantF) {
			t.Errorf("%v: %d entries and %d files, the library reads %d and %d, or others", flags, len(gotE), len(gotF), len(wantE), len(wantF))
		}
	}
}

// A relocation that is not one of debugging information, or out of bounds,
// writes nothing.
func TestRelocateDWARFBounds(t *testing.T) {
	syms := make([]byte, 2*elf.Sym64Size)
	binary.LittleEndian.PutUint64(syms[elf.Sym64Size+8:], 0x1000)
	rela := func(off uint64, sym uint64, typ elf.R_X86_64) []byte {
		b := make([]byte, 24)
		binary.LittleEndian.PutUint64(b, off)
		binary.LittleEndian.PutUint64(b[8:], sym<<32|uint64(typ))
		binary.LittleEndian.PutUint64(b[16:], 5)
		return b
	}
	for _, c := range []struct {
		name    string
		rela    []byte
		written bool
	}{
		{"good", rela(4, 1, elf.R_X86_64_32), true},
		{"behind the end", rela(16, 1, elf.R_X86_64_32), false},
		{"across the end", rela(12, 1, elf.R_X86_64_64), false},
		{"far away", rela(^uint64(0), 1, elf.R_X86_64_64), false},
		{"no such symbol", rela(4, 2, elf.R_X86_64_32), false},
		{"another kind", rela(4, 1, elf.R_X86_64_PC32), false},
		{"cut off", rela(4, 1, elf.R_X86_64_32)[:23], false},
	} {
		data := make([]byte, 16)
		relocateDWARF(data, c.rela, syms)
		if got := !bytes.Equal(data, make([]byte, 16)); got != c.written {
			t.Errorf("%s: written %v", c.name, got)
		}
		if c.written && binary.LittleEndian.Uint32(data[4:]) != 0x1005 {
			t.Errorf("%s: %x", c.name, data)
		}
	}
}
