// SPDX-License-Identifier: Apache-2.0

package kallsyms

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestTable(t *testing.T) {
	syms := []Symbol{
		{Addr: 0x10, Type: 'A', Name: "percpu"},
		{Addr: 0x1000, Type: 'T', Name: "one"},
		{Addr: 0x1000, Type: 't', Name: "alias"},
		{Addr: 0x2000, Type: 't', Name: "twin"},
		{Addr: 0x3000, Type: 't', Name: "twin"},
		{Addr: 0x3000, Type: 't', Name: "twin"},
		{Addr: 0x500, Type: 't', Name: "twin", Module: "m"},
		{Addr: 0x600, Type: 'd', Name: "lone", Module: "m"},
	}
	tab := NewTable(syms)
	for _, c := range []struct {
		module, name string
		addr         uint64
		pos, n       int
	}{
		{"", "one", 0x1000, 0, 1},
		{"", "one", 0x1001, 0, 0},
		{"", "none", 0x1000, 0, 0},
		{"", "twin", 0x2000, 1, 3},
		{"", "twin", 0x3000, 2, 3},
		{"", "twin", 0x500, 0, 0}, // the module's namesake does not count
		{"m", "twin", 0x500, 0, 1},
		{"m", "twin", 0x2000, 0, 0},
	} {
		if pos, n := tab.SymposModule(c.module, c.name, c.addr); pos != c.pos || n != c.n {
			t.Errorf("%q %s at %#x: %d of %d, want %d of %d", c.module, c.name, c.addr, pos, n, c.pos, c.n)
		}
	}
	if got := tab.Lookup("twin"); len(got) != 4 || got[3].Module != "m" {
		t.Errorf("Lookup: %v", got)
	}
	if got := tab.Lookup("none"); got != nil {
		t.Errorf("Lookup: %v", got)
	}
	if d := cmp.Diff(syms[1:3], tab.At(0x1000)); d != "" {
		t.Error(d)
	}
	if got := tab.At(0x1001); got != nil {
		t.Errorf("At: %v", got)
	}
	if s, off, ok := tab.Containing(0x1fff); !ok || s.Name != "one" || off != 0xfff {
		t.Errorf("Containing: %v %#x %v", s, off, ok)
	}
	if s, off, ok := tab.Containing(0x9000); !ok || s.Name != "twin" || off != 0x6000 {
		t.Errorf("Containing: %v %#x %v", s, off, ok)
	}
	if _, _, ok := tab.Containing(0xf); ok {
		t.Error("Containing: something before the first symbol")
	}
	if n, ok := tab.Next(0x1000); !ok || n != 0x2000 {
		t.Errorf("Next: %#x %v", n, ok)
	}
	if _, ok := tab.Next(0x3000); ok {
		t.Error("Next: something after the last symbol")
	}
}

func TestReadProc(t *testing.T) {
	tab, err := ReadProc(strings.NewReader("ffffffff81000000 T _text\n0000000000000000 A fixed_percpu_data\nffffffffc0001000 t e1000_probe\t[e1000]\nffffffffc0002000 t bpf_prog_6deef7357e7b4530\t[bpf]\n"))
	if err != nil {
		t.Fatal(err)
	}
	want := []Symbol{
		{Addr: testBase, Type: 'T', Name: "_text"},
		{Type: 'A', Name: "fixed_percpu_data"},
		{Addr: 0xffffffffc0001000, Type: 't', Name: "e1000_probe", Module: "e1000"},
		{Addr: 0xffffffffc0002000, Type: 't', Name: "bpf_prog_6deef7357e7b4530", Module: "bpf"},
	}
	if d := cmp.Diff(want, tab.Symbols()); d != "" {
		t.Error(d)
	}
	if _, err := ReadProc(strings.NewReader("0000000000000000 T _text\n0000000000000000 T b\n")); !errors.Is(err, ErrRestricted) || !strings.Contains(err.Error(), "kptr_restrict") {
		t.Errorf("hidden addresses: %v", err)
	}
	if _, err := ReadProc(strings.NewReader("")); !errors.Is(err, ErrNoTables) {
		t.Errorf("nothing: %v", err)
	}
	for _, bad := range []string{
		"\n", "ffffffff81000000\n", "ffffffff81000000 T\n", "ffffffff81000000 T \n", "xyz T a\n", "ffffffff81000000 TT a\n",
		"1ffffffff81000000 T a\n", "ffffffff81000000 T a b\n", "ffffffff81000000 t a\te1000\n", "ffffffff81000000 t a\t[]\n",
		"ffffffff81000000 T " + strings.Repeat("a", maxProcLine) + "\n",
	} {
		if tab, err := ReadProc(strings.NewReader("ffffffff81000000 T ok\n" + bad)); err == nil || tab != nil || !strings.Contains(err.Error(), "line 2") {
			t.Errorf("%q: %v", bad, err)
		}
	}
}
