// SPDX-License-Identifier: Apache-2.0

package kbuild

import (
	"os/exec"
	"strings"
	"testing"
)

// The compiler itself says whether __LINE__ is what it was.
func TestKeepLineNumbers(t *testing.T) {
	const old = "#define ONE 1\n" +
		"/* a comment\n * of two lines */\n" +
		"#define LONG(x) do { \\\n\t(x); \\\n} while (0)\n" +
		"static inline int a(void)\n{\n\treturn __LINE__;\n}\n" +
		"static inline int b(void)\n{\n\tLONG(0);\n\treturn __LINE__;\n}\n" +
		"struct s {\n\tint x;\n};\n" +
		"#ifdef ONE\n" +
		"static inline int c(void) { return __LINE__; }\n" +
		"#endif\n" +
		"static inline int d(void) { return __LINE__; }\n"
	lines := strings.Split(old, "\n")
	at := func(s string) int {
		for i, l := range lines {
			if strings.Contains(l, s) {
				return i + 1
			}
		}
		t.Fatalf("no %q", s)
		return 0
	}
	for _, c := range []struct {
		before, text string // put in front of the line that has before
		same         string // functions that keep their lines
	}{
		{"#define ONE", "/* more */\n\n", "abcd"},
		{"of two lines", " * three, by now\n", "abcd"},
		{"(x);", "\t(void)(x); \\\n", "abcd"},
		{"return __LINE__", "\tONE;\n\tONE;\n", "bcd"},
		{"int x", "\tint w;\n", "abcd"},
		{"static inline int c", "int new(void);\n", "abcd"},
		{"static inline int d", "int new(void);\n", "abcd"},
	} {
		n := at(c.before)
		added := strings.Count(c.text, "\n")
		changed := strings.Join(lines[:n-1], "\n") + "\n" + c.text + strings.Join(lines[n-1:], "\n")
		if n == 1 {
			changed = c.text + old
		}
		got := KeepLineNumbers([]byte(changed), []Move{{New: n + added, Old: n}})
		if !sameTokens(got, []byte(changed)) {
			t.Errorf("%s: other text:\n%s", c.before, got)
		}
		was, is := numbers(t, old), numbers(t, string(got))
		for _, f := range "abcd" {
			if (was[f] == is[f]) != strings.ContainsRune(c.same, f) {
				t.Errorf("%s: %c was on line %s, is on %s:\n%s", c.before, f, was[f], is[f], got)
			}
		}
	}
	for _, text := range []string{"}\nint x;\n", "#if A\nint f(void) {\n#else\nint f(int a) {\n#endif\n}\n", ""} {
		if got := KeepLineNumbers([]byte(text), []Move{{New: 2, Old: 1}}); string(got) != text {
			t.Errorf("%q became %q", text, got)
		}
	}
}

// numbers gives what the functions a to d return.
func numbers(t *testing.T, text string) map[rune]string {
	t.Helper()
	cmd := exec.Command("gcc", "-E", "-P", "-x", "c", "-")
	cmd.Stdin = strings.NewReader(text)
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	m := map[rune]string{}
	for _, f := range "abcd" {
		_, rest, _ := strings.Cut(string(out), "int "+string(f)+"(void)")
		_, rest, ok := strings.Cut(rest, "return ")
		n, _, _ := strings.Cut(rest, ";")
		if !ok || n == "" {
			t.Fatalf("%c: %s", f, out)
		}
		m[f] = n
	}
	return m
}
