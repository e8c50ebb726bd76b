// SPDX-License-Identifier: Apache-2.0

package runpre

import (
	"debug/elf"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/lupatch/lupatch/internal/elfobj"
	"github.com/lupatch/lupatch/internal/kallsyms"
	"github.com/lupatch/lupatch/internal/refuse"
)

var flags = strings.Fields("-O2 -std=gnu11 -mcmodel=kernel -fno-pic -fno-asynchronous-unwind-tables -fcf-protection=none -fno-stack-protector -fno-common -c")

// object compiles a file.
func object(t testing.TB, name, src string, extra ...string) string {
	t.Helper()
	dir := t.TempDir()
	c, o := filepath.Join(dir, name+".c"), filepath.Join(dir, name+".o")
	if err := os.WriteFile(c, []byte(src), 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("gcc", slices.Concat(flags, extra, []string{"-o", o, c})...).CombinedOutput(); err != nil {
		t.Fatalf("gcc: %v\n%s", err, out)
	}
	return o
}

func read(t testing.TB, path string) *elfobj.File {
	t.Helper()
	f, err := elfobj.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// link makes a module as the kernel's build does.
func link(t testing.TB, objects ...string) *elfobj.File {
	t.Helper()
	return read(t, ld(t, append([]string{"-r"}, objects...)...))
}

func ld(t testing.TB, args ...string) string {
	t.Helper()
	out := filepath.Join(t.TempDir(), "out")
	if msg, err := exec.Command("ld", append([]string{"-o", out}, args...)...).CombinedOutput(); err != nil {
		t.Fatalf("ld: %v\n%s", err, msg)
	}
	return out
}

// Two units with statics of the same names, of different content.
const (
	unitA = `static int state = 5;
		static __attribute__((noinline)) int helper(int x) { state += x; return state * 3; }
		extern int outside(const char *);
		__attribute__((weak)) int hook(int x) { return x; }
		int alpha(int x) { return helper(x) + outside("alpha") + hook(x); }`
	unitB = `static int state = 6;
		static __attribute__((noinline)) int helper(int x) { return x / 7 - state--; }
		extern int outside(const char *);
		int hook(int x) { return x + 1; }
		int beta(int x) { return helper(x) + outside("beta") + outside("gamma"); }`
	initUnit = `__attribute__((section(".init.text"), noinline)) static int helper(int x) { return x << 3; }
		__attribute__((section(".init.text"))) int init_module(int x) { return helper(x); }`
)

func verified(t *testing.T, r *Result, err error, want int) *Result {
	t.Helper()
	if err == nil {
		err = r.Err("", "")
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range r.Mismatches {
		t.Errorf("%s+%#x: %s", m.Function, m.Offset, m.What)
	}
	if r.Verified != want || r.Functions != want {
		t.Errorf("%d of %d functions verified, want %d", r.Verified, r.Functions, want)
	}
	return r
}

func refused(t *testing.T, err error, id refuse.ID, words ...string) {
	t.Helper()
	e, ok := refuse.As(err)
	if !ok || e.ID != id {
		t.Fatalf("got %v, want %s", err, id)
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("%q does not mention %q", err, w)
		}
	}
}

// Namesakes of a module are told apart by the place of their unit, and counted
// in the order of the symbol table.
func TestModuleNamesakes(t *testing.T) {
	a, b := object(t, "a", unitA), object(t, "b", unitB)
	ko := link(t, a, b)
	ra, err := Module("m", read(t, a), ko)
	verified(t, ra, err, 2)
	if !slices.Equal(ra.Overridden, []string{"hook"}) {
		t.Errorf("overridden: %v", ra.Overridden)
	}
	rb, err := Module("m", read(t, b), ko)
	verified(t, rb, err, 3)
	for name, want := range map[string][2]int{"helper": {1, 2}, "state": {1, 2}} {
		for i, r := range []*Result{ra, rb} {
			f, err := r.LocateModule(ko, name, true)
			if err != nil || f.Sympos != want[i] {
				t.Errorf("%s of unit %d: %+v, %v", name, i, f, err)
			}
		}
	}
	if f, err := ra.LocateModule(ko, "alpha", false); err != nil || f.Sympos != 0 {
		t.Errorf("alpha: %+v, %v", f, err)
	}
	_, err = ra.LocateModule(ko, "nothing", false)
	refused(t, err, refuse.UnresolvedSymbol, "nothing", "module m")
	// A unit that has no such symbol of its own cannot tell which is meant.
	c := object(t, "c", "int c(int x) { return x ^ 77; }")
	ko = link(t, a, b, c)
	rc, err := Module("m", read(t, c), ko)
	verified(t, rc, err, 1)
	_, err = rc.LocateModule(ko, "helper", true)
	refused(t, err, refuse.AmbiguousSymbol, "2 symbols of module m")
	_, err = rc.LocateModule(ko, "helper", false)
	refused(t, err, refuse.AmbiguousSymbol, "2 symbols of module m")
}

// A namesake in an __init section is counted while the module is loading, and
// no longer when it is live.
func TestModuleInitNamesake(t *testing.T) {
	a, b, i := object(t, "a", unitA), object(t, "b", unitB), object(t, "i", initUnit)
	for _, c := range []struct {
		name    string
		objects []string
		of      string
		sympos  int // -1: refused
	}{
		{"in front", []string{i, a, b}, a, -1},
		{"between, the first is meant", []string{a, i, b}, a, 1},
		{"between, the second is meant", []string{a, i, b}, b, -1},
		{"behind", []string{a, b, i}, b, 2},
		{"behind the only one", []string{a, i}, a, 1},
		{"itself", []string{a, b, i}, i, -1},
	} {
		ko := link(t, c.objects...)
		r, err := Module("m", read(t, c.of), ko)
		if err != nil {
			t.Fatal(err)
		}
		f, err := r.LocateModule(ko, "helper", true)
		if c.sympos < 0 {
			refused(t, err, refuse.SymposUnstable, "while module m is loading", "when it is live")
		} else if err != nil || f.Sympos != c.sympos {
			t.Errorf("%s: %+v, %v", c.name, f, err)
		}
	}
	// One that is alone is gone as well.
	ko := link(t, i)
	r, err := Module("m", read(t, i), ko)
	verified(t, r, err, 2)
	_, err = r.LocateModule(ko, "helper", true)
	refused(t, err, refuse.SymposUnstable)
}

func TestModuleMismatch(t *testing.T) {
	b := object(t, "b", unitB)
	for _, c := range []struct{ name, from, to, function, what string }{
		{"constant", "x / 7", "x / 9", "helper", "differs"},
		{"callee", `outside("gamma")`, "helper(9)", "beta", "differs"},
		{"text", `"gamma"`, `"delta"`, "beta", `"gamma", shipped "delta"`},
		{"symbol", `outside("beta")`, `inside("beta")`, "beta", "it refers to outside, shipped to inside"},
		{"length", "return x + 1;", "return x * 5 + outside(0);", "hook", "bytes, shipped"},
		{"missing", "int hook(int x) { return x + 1; }", "", "hook", "differs"},
	} {
		t.Run(c.name, func(t *testing.T) {
			other := "extern int inside(const char *);\n" + strings.Replace(unitB, c.from, c.to, 1)
			ko := link(t, object(t, "a", unitA), object(t, "other", other))
			r, err := Module("m", read(t, b), ko)
			if err != nil {
				t.Fatal(err)
			}
			i := slices.IndexFunc(r.Mismatches, func(m Mismatch) bool { return m.Function == c.function })
			if i < 0 {
				t.Fatalf("%s is said to be the same: %+v", c.function, r.Mismatches)
			}
			m := r.Mismatches[i]
			if !strings.Contains(m.What, c.what) {
				t.Errorf("%+v does not say %q", m, c.what)
			}
			if c.name == "constant" && (m.Offset == 0 || m.Offset > 32) {
				t.Errorf("the difference is said to be at +%#x", m.Offset)
			}
			refused(t, r.Mismatch(c.function), refuse.RunPreMismatch, c.function+"+0x")
			if err := r.Mismatch("no such function"); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestCause: the message says what is likely wrong.
func TestCause(t *testing.T) {
	const ours, theirs = "GCC: (Debian 12.2.0-14) 12.2.0", "GCC: (Debian 13.1.0-1) 13.1.0"
	few := &Result{Unit: "m", Functions: 10, Mismatches: []Mismatch{{"f", 16, "the code differs"}}}
	most := &Result{Unit: "m", Functions: 10, Mismatches: make([]Mismatch, 6)}
	refused(t, few.Err(ours, theirs), refuse.RunPreMismatch, "f+0x10", "the compiler", ours, theirs)
	refused(t, few.Err(ours, ours), refuse.RunPreMismatch, "1 of 10 functions of m", "another source version")
	refused(t, most.Err("", theirs), refuse.RunPreMismatch, "compiler options or configuration")
	if err := (&Result{Functions: 3, Verified: 3}).Err(ours, ours); err != nil {
		t.Error(err)
	}
	if err := (&Result{}).Err("", ""); err != nil {
		t.Errorf("a unit without code: %v", err)
	}
	o := read(t, object(t, "a", unitA))
	if c := Compiler(o); !strings.HasPrefix(c, "GCC: (") || strings.ContainsRune(c, 0) {
		t.Errorf("compiler %q", c)
	}
	if c := Compiler(&elfobj.File{}); c != "" {
		t.Errorf("compiler %q of nothing", c)
	}
}

// image is a linked program in place of a kernel.
type image struct{ f *elf.File }

func (im image) ReadAt(addr uint64, n int) ([]byte, error) {
	for _, s := range im.f.Sections {
		if s.Flags&elf.SHF_ALLOC != 0 && s.Type != elf.SHT_NOBITS && addr >= s.Addr && addr+uint64(n) <= s.Addr+s.Size {
			b := make([]byte, n)
			_, err := s.ReadAt(b, int64(addr-s.Addr))
			return b, err
		}
	}
	return nil, os.ErrNotExist
}

// linkImage links objects as a kernel image is linked and gives its symbols in
// the order of addresses.
func linkImage(t testing.TB, objects ...string) (image, *kallsyms.Table) {
	t.Helper()
	f, err := elf.Open(ld(t, append([]string{"-e", "0", "-Ttext=0xffffffff81000000"}, objects...)...))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	all, err := f.Symbols()
	if err != nil {
		t.Fatal(err)
	}
	var syms []kallsyms.Symbol
	for _, y := range all {
		if typ := elf.ST_TYPE(y.Info); y.Name == "" || typ == elf.STT_FILE || typ == elf.STT_SECTION || y.Section == elf.SHN_UNDEF {
			continue
		}
		kind := byte('t')
		if elf.ST_BIND(y.Info) != elf.STB_LOCAL {
			kind = 'T'
		}
		syms = append(syms, kallsyms.Symbol{Name: y.Name, Addr: y.Value, Type: kind})
	}
	slices.SortStableFunc(syms, func(a, b kallsyms.Symbol) int {
		if a.Addr < b.Addr {
			return -1
		}
		return 1
	})
	return image{f}, kallsyms.NewTable(syms)
}

const core = "int outside(const char *s) { return *s; }\nint inside(const char *s) { return s[1]; }\n"

func TestKernelNamesakes(t *testing.T) {
	a, b, c := object(t, "a", unitA), object(t, "b", unitB), object(t, "core", core)
	im, syms := linkImage(t, c, a, b)
	ra, err := Kernel(read(t, a), im, syms)
	verified(t, ra, err, 2)
	rb, err := Kernel(read(t, b), im, syms)
	verified(t, rb, err, 3)
	for _, name := range []string{"helper", "state"} {
		for i, r := range []*Result{ra, rb} {
			if f, err := r.LocateKernel(syms, name, true); err != nil || f.Sympos != i+1 {
				t.Errorf("%s of unit %d: %+v, %v", name, i, f, err)
			}
		}
	}
	if f, err := ra.LocateKernel(syms, "outside", false); err != nil || f.Sympos != 0 {
		t.Errorf("outside: %+v, %v", f, err)
	}
	_, err = ra.LocateKernel(syms, "nothing", false)
	refused(t, err, refuse.UnresolvedSymbol, "nothing")
	rc, err := Kernel(read(t, c), im, syms)
	verified(t, rc, err, 2)
	_, err = rc.LocateKernel(syms, "helper", false)
	refused(t, err, refuse.AmbiguousSymbol, "helper", "2 symbols")
}

// A global symbol with static namesakes is the one that the shipped code uses.
func TestKernelExternNamesake(t *testing.T) {
	first := object(t, "first", "static __attribute__((noinline, used)) int outside(const char *s) { return s[9]; }")
	a, c := object(t, "a", unitA), object(t, "core", core)
	im, syms := linkImage(t, first, a, c)
	r, err := Kernel(read(t, a), im, syms)
	verified(t, r, err, 3)
	if f, err := r.LocateKernel(syms, "outside", false); err != nil || f.Sympos != 2 {
		t.Errorf("outside: %+v, %v", f, err)
	}
}

func TestKernelMismatch(t *testing.T) {
	b := object(t, "b", unitB)
	for _, c := range []struct{ name, from, to, function, what string }{
		{"constant", "x / 7", "x / 9", "helper", "differs"},
		{"text", `"gamma"`, `"delta"`, "beta", "gamma"},
		{"symbol", `outside("beta")`, `inside("beta")`, "beta", "something else than outside"},
		{"missing", "int hook(int x) { return x + 1; }", "", "hook", "not in the image"},
		{"longer", "return x + 1;", "return x + 1 + outside(0);", "hook", "differs"},
	} {
		t.Run(c.name, func(t *testing.T) {
			other := "extern int inside(const char *);\n" + strings.Replace(unitB, c.from, c.to, 1)
			im, syms := linkImage(t, object(t, "core", core), object(t, "other", other))
			r, err := Kernel(read(t, b), im, syms)
			if err != nil {
				t.Fatal(err)
			}
			i := slices.IndexFunc(r.Mismatches, func(m Mismatch) bool { return m.Function == c.function })
			if i < 0 || !strings.Contains(r.Mismatches[i].What, c.what) {
				t.Fatalf("%+v does not say that of %s %q", r.Mismatches, c.function, c.what)
			}
		})
	}
}
