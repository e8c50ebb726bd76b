// SPDX-License-Identifier: Apache-2.0

package elfobj_test

import (
	"bytes"
	"debug/elf"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/lupatch/lupatch/internal/elfobj"
)

func compile(t testing.TB, src string, flags ...string) []byte {
	t.Helper()
	dir := t.TempDir()
	c, o := filepath.Join(dir, "x.c"), filepath.Join(dir, "x.o")
	if err := os.WriteFile(c, []byte(src), 0o644); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("gcc", append(append([]string{"-c", "-O2", "-o", o}, flags...), c)...).CombinedOutput()
	if err != nil {
		t.Fatalf("gcc: %v\n%s", err, out)
	}
	b, err := os.ReadFile(o)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

const sample = `
extern int out(const char *, int); static int counter; int table[3] = {1,2,3};
static int __attribute__((noinline)) helper(int a) { return out("text", a + counter++); }
int entry(int a) { return helper(a) + table[a]; }`

func TestRoundTrip(t *testing.T) {
	for _, flags := range [][]string{nil, {"-g"}, {"-ffunction-sections", "-fdata-sections", "-mcmodel=kernel", "-fno-pic"}} {
		in := compile(t, sample, flags...)
		f, err := elfobj.Read(in)
		if err != nil {
			t.Fatal(err)
		}
		out, err := f.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		g, err := elfobj.Read(out)
		if err != nil {
			t.Fatalf("reading back: %v", err)
		}
		if d := cmp.Diff(describe(f), describe(g)); d != "" {
			t.Errorf("flags %v changed on the way: %s", flags, d)
		}
		// The linker is the judge of what is well formed.
		p := filepath.Join(t.TempDir(), "x.o")
		if err := os.WriteFile(p, out, 0o644); err != nil {
			t.Fatal(err)
		}
		if msg, err := exec.Command("ld", "-r", "-o", p+".2", p).CombinedOutput(); err != nil {
			t.Errorf("ld -r: %v\n%s", err, msg)
		}
	}
}

// describe flattens what matters, with names in place of pointers.
func describe(f *elfobj.File) map[string][]string {
	m := map[string][]string{}
	for _, s := range f.Sections {
		m["sec "+s.Name] = append(m["sec "+s.Name], string(s.Data), s.Type.String(), s.Flags.String())
		for _, r := range s.Relocs {
			sec := ""
			if r.Sym.Section != nil {
				sec = r.Sym.Section.Name
			}
			m["rel "+s.Name] = append(m["rel "+s.Name], r.Type.String(), r.Sym.Name, sec, string(rune(r.Off)), string(rune(r.Addend+1000)))
		}
	}
	for _, y := range f.Symbols {
		m["sym"] = append(m["sym"], y.Name+y.Type.String()+y.Bind.String())
	}
	return m
}

func TestReadRefuses(t *testing.T) {
	good := compile(t, sample)
	for name, b := range map[string][]byte{
		"empty": nil, "text": []byte("#!/bin/sh\n"), "header only": good[:64], "half": good[:len(good)/2],
	} {
		if f, err := elfobj.Read(b); !errors.Is(err, elfobj.ErrFormat) || f != nil {
			t.Errorf("%s: got %v, %v", name, f, err)
		}
	}
	exe, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := elfobj.Read(exe); !errors.Is(err, elfobj.ErrFormat) {
		t.Errorf("an executable was read as an object: %v", err)
	}
}

func TestRelocsIn(t *testing.T) {
	s := &elfobj.Section{Relocs: []elfobj.Reloc{{Off: 1}, {Off: 5}, {Off: 9}}}
	for _, c := range []struct {
		from, to uint64
		want     int
	}{{0, 1, 0}, {0, 2, 1}, {1, 9, 2}, {5, 100, 2}, {10, 100, 0}} {
		if got := len(s.RelocsIn(c.from, c.to)); got != c.want {
			t.Errorf("[%d,%d): %d relocations, want %d", c.from, c.to, got, c.want)
		}
	}
}

// Without its debugging information the rest of an object reads the same.
func TestReadCode(t *testing.T) {
	in := compile(t, sample, "-g", "-ffunction-sections", "-fdata-sections")
	whole, err := elfobj.Read(in)
	if err != nil {
		t.Fatal(err)
	}
	code, err := elfobj.ReadCode(in)
	if err != nil {
		t.Fatal(err)
	}
	want, got := describe(whole), describe(code)
	debug := 0
	for name := range want {
		if strings.Contains(name, " .debug_") || strings.Contains(name, " .rela.debug_") {
			delete(want, name)
			debug++
		}
	}
	// Symbols that name sections are fewer.
	for _, m := range []map[string][]string{want, got} {
		m["sym"] = slices.DeleteFunc(m["sym"], func(s string) bool { return strings.Contains(s, "STT_SECTION") })
	}
	if d := cmp.Diff(want, got); d != "" || debug == 0 {
		t.Errorf("%d sections of debugging information; the others changed: %s", debug, d)
	}
	out, err := code.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := elfobj.Read(out); err != nil {
		t.Errorf("reading back: %v", err)
	}
	if _, err := elfobj.ReadCode(in[:len(in)/2]); !errors.Is(err, elfobj.ErrFormat) {
		t.Errorf("half an object: %v", err)
	}
}

func FuzzRead(f *testing.F) {
	f.Add(compile(f, sample))
	f.Add(compile(f, sample, "-ffunction-sections", "-g"))
	f.Add([]byte(elf.ELFMAG))
	f.Fuzz(func(t *testing.T, b []byte) {
		if c, err := elfobj.ReadCode(b); err != nil && c != nil {
			t.Error("an error came with a result")
		}
		o, err := elfobj.Read(b)
		if err != nil {
			if o != nil {
				t.Error("an error came with a result")
			}
			return
		}
		first, err := o.Bytes()
		if err != nil {
			return
		}
		p, err := elfobj.Read(first)
		if err != nil {
			return
		}
		if second, err := p.Bytes(); err == nil && len(p.Sections) == len(o.Sections) && !bytes.Equal(first, second) {
			t.Error("writing twice gives different bytes")
		}
	})
}
