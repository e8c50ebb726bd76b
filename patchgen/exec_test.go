// SPDX-License-Identifier: Apache-2.0

package patchgen_test

import (
	"debug/elf"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lupatch/lupatch/internal/elfobj"
	"github.com/lupatch/lupatch/patchgen"
)

// The object is right if a program in which it takes the place of changed
// functions behaves like the new version, on the data of the old one. These
// cases run for real: the old version is linked with the object, as if the
// kernel had resolved the livepatch symbols, and the harness calls the new code.
var execCases = []struct {
	name, old, new, main, want string
}{
	{
		"an immediate behind an address in a shared section",
		`static int a SHARED = 1, b SHARED = 2, c SHARED = 3;
		 int get(void) { return a * 10000 + b * 100 + c; }
		 int entry(int x) { b = 0x11; c += x; return a; }`,
		`static int a SHARED = 1, b SHARED = 2, c SHARED = 3;
		 int get(void) { return a * 10000 + b * 100 + c; }
		 int entry(int x) { b = 0x22; c += 2 * x; a = 7; return a + b; }`,
		`printf("%d ", entry(1)); printf("%d ", get()); printf("%d ", alias_0(1)); printf("%d", get());`,
		"1 11704 41 73406",
	},
	{
		"the cold part jumps back into its function",
		`static int n; int show(void) { return n; }
		 __attribute__((cold, noinline)) static void rare(int x) { n += x; }
		 int entry(int x) { if (__builtin_expect(x > 5, 0)) { rare(x); rare(1); } n++; return n; }`,
		`static int n; int show(void) { return n; }
		 __attribute__((cold, noinline)) static void rare(int x) { n += x; }
		 int entry(int x) { if (__builtin_expect(x > 5, 0)) { rare(x); rare(100); } n += 2; return n; }`,
		`printf("%d ", entry(9)); printf("%d ", alias_0(1)); printf("%d ", alias_0(9)); printf("%d", show());`,
		"11 13 124 124",
	},
	{
		"functions that share a section",
		`static __attribute__((noinline, section(".sched.text"))) int inner(int x) { return x * 3; }
		 __attribute__((section(".sched.text"))) int entry(int x) { return inner(x) + 1; }`,
		`static __attribute__((noinline, section(".sched.text"))) int inner(int x) { return x * 3; }
		 __attribute__((section(".sched.text"))) int entry(int x) { return inner(x) + inner(x + 1); }`,
		`printf("%d %d", entry(2), alias_0(2));`,
		"7 15",
	},
	{
		"static locals keep their values under new numbers",
		`int entry(int x) { static int calls = 40; calls += x; return calls; }`,
		`int before(int x) { static int calls = 7; calls += x; return calls; }
		 int entry(int x) { static int calls = 40; calls += x; return calls * 2; }`,
		`entry(1); printf("%d ", alias_0(1)); printf("%d", entry(1));`,
		"84 43",
	},
	{
		"texts and tables of constants",
		`static const int t[4] = { 1, 2, 3, 4 };
		 const char *name(int x) { return x ? "one" : "two"; }
		 int entry(int x) { return t[x & 3] + name(x)[0]; }`,
		`static const int t[4] = { 1, 2, 30, 4 };
		 const char *name(int x) { return x ? "one" : "two"; }
		 int entry(int x) { return t[x & 3] + name(x)[1] + "suffix of a longer text"[x]; }`,
		`printf("%d %d", entry(2), alias_0(2));`,
		"114 242",
	},
	{
		"a changed function is reached at its shipped entry, also from the new code",
		`int calls; __attribute__((noinline)) int entry(int);
		 __attribute__((noinline)) int odd(int x) { return entry(x - 1) * 2; }
		 int entry(int x) { calls++; return x < 1 ? 0 : odd(x) + 1; }`,
		`int calls; __attribute__((noinline)) int entry(int);
		 __attribute__((noinline)) int odd(int x) { return entry(x - 1) * 2; }
		 int entry(int x) { calls += 100; return x < 1 ? 5 : odd(x) + 3; }`,
		`int r = alias_0(1); printf("%d %d", r, calls);`,
		"3 101",
	},
	{
		"values that the kernel fills into its code",
		`unsigned long limit = 4242; static unsigned long table[] = { 5, 6 };
		 __attribute__((used)) static unsigned long *where = table;
		 int entry(int x) { return x; }`,
		`unsigned long limit = 4242; static unsigned long table[] = { 5, 6 };
		 __attribute__((used)) static unsigned long *where = table;
		 int entry(int x) { return RUNTIME("rax", limit) + RUNTIME("rdi", limit) + RUNTIME("r8", limit) + RUNTIME("r12", limit) + RUNTIME("r15", limit)
			+ ((unsigned long *)RUNTIME("r13", where))[1] + x; }`,
		`printf("%d", alias_0(100));`,
		"21316",
	},
}

func TestExecuted(t *testing.T) {
	for _, c := range execCases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			for _, late := range []bool{false, true} {
				if got := execute(t, c.old, c.new, c.main, late); got != c.want {
					t.Errorf("late %v: got %q, want %q", late, got, c.want)
				}
			}
		})
	}
}

// head declares what cases need: data in a section that several share, and
// asm/runtime-const.h in this file's words.
const head = `
#define SHARED __attribute__((section(".data..shared")))
#define RUNTIME(reg, var) ({ register unsigned long v asm(reg); asm volatile("movabs %1,%0\n1:\n"	\
	".pushsection runtime_ptr_" #var ",\"a\"\n.long 1b - 8 - .\n.popsection" : "=r" (v) : "i" (0x0123456789abcdefUL)); v; })
`

// execute runs a case, late as for a kernel whose objtool works on what is
// linked and that has room before functions.
func execute(t *testing.T, oldSrc, newSrc, body string, late bool) string {
	dir := t.TempDir()
	small := []string{"-mcmodel=small"} // to run below 2 GiB
	if late {
		small = append(small, "-fpatchable-function-entry=16,16")
	}
	old, _ := compile(t, dir, []byte(head+oldSrc), small)
	new, _ := compile(t, dir, []byte(head+newSrc), small)
	res, err := patchgen.Generate(patchgen.Input{
		Unit: "m", Old: old, New: new, Sizes: patchgen.DefaultSizes(), Kernel: parseKernel(t, "unit m"), AliasPrefix: "alias_", LateObjtool: late,
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, y := range res.Object.Symbols {
		if ref, ok := patchgen.ParseKlp(y.Name); ok {
			y.Name = "shipped_" + ref.Symbol
		}
	}
	// Every symbol of the old version, static ones too, gets a global name of
	// its own: what the livepatch core finds in the kernel's symbol table.
	for _, y := range old.Symbols {
		if y.Section != nil && !y.IsSection() && y.Name != "" && (y.Type == elf.STT_FUNC || y.Type == elf.STT_OBJECT) {
			z := *y
			z.Name, z.Bind = "shipped_"+y.Name, elf.STB_GLOBAL
			old.Symbols = append(old.Symbols, &z)
		}
	}
	write(t, filepath.Join(dir, "old.o"), old)
	write(t, filepath.Join(dir, "patch.o"), res.Object)
	main := "#include <stdio.h>\nasm(\".globl __fentry__\\n__fentry__: ret\");\nint entry(int), alias_0(int), get(void), show(void);\n"
	if strings.Contains(oldSrc, "int calls;") {
		main += "extern int calls;\n"
	}
	main += "int main(void) { " + body + " return 0; }\n"
	if err := os.WriteFile(filepath.Join(dir, "main.c"), []byte(main), 0o644); err != nil {
		t.Fatal(err)
	}
	exe := filepath.Join(dir, "exe")
	cmd := exec.Command("gcc", "-no-pie", "-fno-pic", "-z", "noexecstack", "-o", exe, filepath.Join(dir, "main.c"), filepath.Join(dir, "old.o"), filepath.Join(dir, "patch.o"))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("linking: %v\n%s", err, out)
	}
	out, err := exec.Command(exe).CombinedOutput()
	if err != nil {
		t.Fatalf("running: %v\n%s", err, out)
	}
	return string(out)
}

func write(t *testing.T, path string, f *elfobj.File) {
	b, err := f.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, b, 0o644); err != nil {
		t.Fatal(err)
	}
}
