// SPDX-License-Identifier: Apache-2.0

package kbuild

import (
	"strings"
	"testing"
)

// What a header has in front of the code under test.
const declared = `
typedef unsigned int u32;
struct sk { int a; struct in { long b; } in; };
struct other;
enum how { HOW_A, HOW_B = 3, HOW_C };
extern __attribute__((noinline)) int called(struct sk *s, u32 n);
int (*pointer)(int);
static inline __attribute__((__gnu_inline__)) __attribute__((__unused__)) int low(struct sk *s) { return s->a + 1; }
static inline int mid(struct sk *s) { return low(s) + called(s, 2); }
static inline __attribute__((__used__)) int kept(void) { return 1; }
static __attribute__((__unused__)) int plain(void) { return 2; }
struct __attribute__((packed)) odd { char c; } odd_one;
`

func TestDiffers(t *testing.T) {
	const usesNothing, usesMid, usesEnum = "int f(int x) { return x; }\n", "int f(void *p) { return mid(p); }\n", "int f(void) { return HOW_C; }\n"
	for _, c := range []struct {
		name, code, old, new string
		text, differ         bool
	}{
		{"nothing", usesMid, "", "", false, false},
		{"blanks", usesMid, "s->a + 1", "s->a +  1", false, false},
		{"unused inline", usesNothing, "s->a + 1", "s->a + 2", true, false},
		{"inline used by another", usesMid, "s->a + 1", "s->a + 2", true, true},
		{"inline whose address is taken", "void *p = low;\n", "s->a + 1", "s->a + 2", true, true},
		{"inline named by a string", "extern int g(void) __attribute__((alias(\"low\")));\n", "s->a + 1", "s->a + 2", true, true},
		{"inline named by assembly", "asm(\"jmp low + 4\");\n", "s->a + 1", "s->a + 2", true, true},
		{"string of another word", "asm(\"jmp lower\");\n", "s->a + 1", "s->a + 2", true, false},
		{"inline that is kept", usesNothing, "return 1;", "return 3;", true, true},
		{"function that is not inline", usesNothing, "return 2;", "return 3;", true, true},
		{"no inline any more", usesNothing, "static inline int mid", "int mid", true, true},
		{"unused prototype", usesNothing, "u32 n)", "long n)", true, false},
		{"prototype used by an inline", usesMid, "u32 n)", "long n)", true, true},
		{"prototype of what is defined here", "int called(struct sk *s, u32 n) { return 0; }\n", "extern __attribute__((noinline)) int", "extern int", true, true},
		{"pointer, not prototype", usesNothing, "int (*pointer)(int)", "int (*pointer)(long)", true, true},
		{"unused structure", usesNothing, "int a;", "int a; int more;", true, false},
		{"structure used by an inline", usesMid, "int a;", "int a; int more;", true, true},
		{"structure passed by value", "int by(struct sk s); struct sk get(void);\nint f(void) { return by(get()); }\n", "int a;", "int a; int more;", true, true},
		{"inner structure", "long f(struct in *i) { return i->b; }\n", "long b;", "int z; long b;", true, true},
		{"structure with a variable", usesNothing, "char c;", "long c;", true, true},
		{"structure in a variable", "struct sk global;\n", "int a;", "int a; int more;", true, true},
		{"structure behind a typedef", "typedef struct sk sk_t; int f(sk_t *s) { return s->a; }\n", "int a;", "int a; int more;", true, true},
		{"unused constant", usesNothing, "HOW_B = 3", "HOW_B = 4", true, false},
		{"constant", usesEnum, "HOW_B = 3", "HOW_B = 4", true, true},
		{"new forward declaration", usesMid, "struct other;", "struct other; struct third;", true, false},
		{"typedef", usesNothing, "typedef unsigned int u32", "typedef unsigned long u32", true, true},
		{"order", usesNothing, "struct other;\nenum how { HOW_A, HOW_B = 3, HOW_C };", "enum how { HOW_A, HOW_B = 3, HOW_C };\nstruct other;", true, false},
		{"code", usesNothing, "return x;", "return x + 1;", true, true},
	} {
		old := declared + c.code
		if !strings.Contains(old, c.old) {
			t.Fatalf("%s: no %q", c.name, c.old)
		}
		text, code := differs([]byte(old), []byte(strings.Replace(old, c.old, c.new, 1)))
		if text != c.text || code != c.differ {
			t.Errorf("%s: text %t, code %t", c.name, text, code)
		}
		back, bcode := differs([]byte(strings.Replace(old, c.old, c.new, 1)), []byte(old))
		if back != text || bcode != code {
			t.Errorf("%s: the other way round it is text %t, code %t", c.name, back, bcode)
		}
	}
}

func TestSameTokens(t *testing.T) {
	const h = "/* a */\n#ifndef A_H\n#define A_H\n#define F(x) ((x) + \\\n\t1) /* plus */\n// it's\nstruct a { int b; };\n#endif\n"
	for _, c := range []struct {
		name, old, new string
		same           bool
	}{
		{"comment", "/* a */", "/* b\n * c */", true},
		{"comment of a line", "// it's", "//  nothing", true},
		{"end of line", "/* plus */", "", true},
		{"indent", "struct a {", "struct a\n\t{", true},
		{"joined lines", " + \\\n\t1", " + 1", true},
		{"blanks that # would show", "(x) + \\", "(x)+ \\", false},
		{"object-like", "F(x)", "F (x)", false},
		{"code on a directive's line", "#define A_H\n", "#define A_H ", false},
		{"name", "int b", "int c", false},
		{"comment that begins", "struct a { int b; };\n", "/* struct a { int b; }; */\n", false},
		{"comment that does not end", "/* plus */", "/* plus", false},
		{"string", "struct", "char *s = \"/* x */\"; struct", false},
	} {
		if got := sameTokens([]byte(h), []byte(strings.Replace(h, c.old, c.new, 1))); got != c.same {
			t.Errorf("%s: %t", c.name, got)
		}
	}
}
