// SPDX-License-Identifier: Apache-2.0

package patchgen_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/lupatch/lupatch/internal/elfobj"
	"github.com/lupatch/lupatch/patchgen"
)

// common are types that both versions of a case have.
const common = `
typedef unsigned int u32; typedef struct { int v; } wrapped_t; typedef int (*hook_t)(long);
struct dev; struct other; enum mode { A, B };
#define NOINLINE __attribute__((noinline))
`

func prototypes(t *testing.T, src string) *patchgen.Prototypes {
	t.Helper()
	p, err := patchgen.ReadPrototypes(compileSeed(t, []byte(common+src)))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// Each changes one declaration, with the difference that callers would have to
// know of.
func TestChangedPrototypes(t *testing.T) {
	const body = " { return 0; }"
	for _, c := range []struct{ name, old, new, want string }{
		{"another name", "int f(struct dev *d, int n)", "int f(struct dev *e, int m)", ""},
		{"qualifiers", "int f(struct dev *d, char *s)", "int f(const struct dev *d, const char *const s)", ""},
		{"a typedef", "int f(unsigned int n, int (*cb)(long))", "int f(u32 n, hook_t cb)", ""},
		{"one more", "int f(struct dev *d)", "int f(struct dev *d, int n)", "f: int (struct dev *) → int (struct dev *, int)"},
		{"one less", "int f(int n)", "int f(void)", "f: int (int) → int (void)"},
		{"any number", "int f(char *s)", "int f(char *s, ...)", "f: int (char *) → int (char *, ...)"},
		{"order", "int f(int a, char *b)", "int f(char *b, int a)", "f: int (int, char *) → int (char *, int)"},
		{"width", "int f(int n)", "int f(long n)", "f: int (int) → int (long)"},
		{"sign", "int f(int n)", "int f(u32 n)", "f: int (int) → int (unsigned int)"},
		{"truth", "int f(int n)", "int f(_Bool n)", "f: int (int) → int (_Bool)"},
		{"result", "int f(int n)", "long f(int n)", "f: int (int) → long (int)"},
		{"structure", "int f(struct dev *d)", "int f(struct other *d)", "f: int (struct dev *) → int (struct other *)"},
		{"unnamed structure", "int f(wrapped_t *w)", "int f(int *w)", "f: int (wrapped_t *) → int (int *)"},
		{"enumeration", "int f(enum mode m)", "int f(u32 m)", "f: int (enum mode) → int (unsigned int)"},
		{"pointer's depth", "int f(struct dev *d)", "int f(struct dev **d)", "f: int (struct dev *) → int (struct dev **)"},
		{"callback", "int f(hook_t cb)", "int f(int (*cb)(long, int))", "f: int (int (long) *) → int (int (long, int) *)"},
		{"static", "static NOINLINE int f(struct dev *d)", "static NOINLINE int f(struct dev *d, int n)", "f: int (struct dev *) → int (struct dev *, int)"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			use := "\nvoid *where = f;"
			old, new := prototypes(t, c.old+body+use), prototypes(t, c.new+body+use)
			functions, slots := patchgen.ChangedPrototypes(old, new)
			got := ""
			for _, f := range functions {
				got += fmt.Sprintf("%s: %s → %s", f.Name, f.Old, f.New)
			}
			if got != c.want || len(slots) > 0 {
				t.Errorf("%q and slots %v, want %q", got, slots, c.want)
			}
		})
	}
}

// A structure keeps its layout when what its pointers point to is called in
// another way.
func TestChangedSlots(t *testing.T) {
	const rest = "\nstruct ops o; int (*hook)(%s); hook_t table[2]; int f(struct ops *p) { return p->count + (hook ? 1 : 0); }"
	old := prototypes(t, "struct ops { int count; int (*open)(struct dev *); void (*shut)(struct dev *); };"+fmt.Sprintf(rest, "int"))
	new := prototypes(t, "struct ops { int count; int (*open)(struct dev *, int); void (*shut)(struct dev *d); };"+fmt.Sprintf(rest, "char *"))
	functions, slots := patchgen.ChangedPrototypes(old, new)
	want := []patchgen.PrototypeChange{
		{Name: "member open of struct ops", Old: "int (struct dev *)", New: "int (struct dev *, int)"},
		{Name: "variable hook", Old: "int (int)", New: "int (char *)"},
	}
	if !slices.Equal(slots, want) || len(functions) > 0 {
		t.Errorf("slots %v and functions %v, want %v", slots, functions, want)
	}
	if got := old.Slots["variable table"]; got != "int (long)" {
		t.Errorf("the array of pointers is %q", got)
	}
}

// What a file takes the functions of others for.
func TestDeclaredPrototypes(t *testing.T) {
	p := prototypes(t, "extern int f(struct dev *, int); extern void unused(void);\nint g(struct dev *d) { extern int h(char); return f(d, 1) + h(2); }")
	for name, want := range map[string][]string{"f": {"int (struct dev *, int)"}, "h": {"int (char)"}, "unused": nil} {
		if got := p.Declared[name]; !slices.Equal(got, want) {
			t.Errorf("%s is taken for %q, want %q", name, got, want)
		}
	}
	if _, ok := p.Defined["f"]; ok || p.Defined["g"] != "int (struct dev *)" {
		t.Errorf("defined are %v", p.Defined)
	}
}

// What a function refers to, where the compiler has made a clone of it, too.
func TestReferences(t *testing.T) {
	obj, err := elfobj.Read(compileSeed(t, []byte(common+`
extern int far(int); int count;
static NOINLINE int near(int used, int unused) { return far(used) + count; }
int g(int n) { return near(n, 3); }
int idle(void) { return 4; }`)))
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"g": "near", "idle": ""} {
		got := ""
		for ref := range patchgen.References(obj, name, patchgen.DefaultSizes()) {
			if ref != "__fentry__" {
				got += ref
			}
		}
		if cut, _, _ := strings.Cut(got, "."); cut != want {
			t.Errorf("%s refers to %q, want %q", name, got, want)
		}
	}
}
