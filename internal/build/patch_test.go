// SPDX-License-Identifier: Apache-2.0

package build

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/lupatch/lupatch/internal/refuse"
	"github.com/lupatch/lupatch/patchgen"
)

// numbered is a file of lines "1" to "60"; 20 to 29 occur again as 40 to 49.
func numbered() string {
	var b strings.Builder
	for i := 1; i <= 60; i++ {
		n := i
		if i >= 40 && i < 50 {
			n = i - 20
		}
		fmt.Fprintln(&b, n)
	}
	return b.String()
}

func sourceTree(t testing.TB) string {
	t.Helper()
	root := t.TempDir()
	for name, text := range map[string]string{"fs/a.c": numbered(), "fs/b.h": "x\ny", "MAINTAINERS": "m\n", "fs/sub/a.c": "other\n"} {
		p := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

const twoHunks = "@@ -4,3 +4,4 @@\n 4\n-5\n+five\n+more\n 6\n@@ -32,3 +33,2 @@\n 32\n-33\n 34\n"

// However the change is written, it is the same change.
func TestPatchForms(t *testing.T) {
	root := sourceTree(t)
	want := strings.Replace(strings.Replace(numbered(), "\n5\n", "\nfive\nmore\n", 1), "\n33\n", "\n", 1)
	for name, text := range map[string]string{
		"git":        "diff --git a/fs/a.c b/fs/a.c\nindex 1..2 100644\n--- a/fs/a.c\n+++ b/fs/a.c\n" + twoHunks,
		"no prefix":  "diff --git fs/a.c fs/a.c\n--- fs/a.c\n+++ fs/a.c\n" + twoHunks,
		"a and b":    "--- a/fs/a.c\n+++ b/fs/a.c\n" + twoHunks,
		"times":      "--- a/fs/a.c\t2026-01-01 10:00:00.000000000 +0000\n+++ b/fs/a.c\t2026-01-02 10:00:00.000000000 +0000\n" + twoHunks,
		"two trees":  "diff -ur linux.orig/fs/a.c linux/fs/a.c\n--- linux.orig/fs/a.c\n+++ linux/fs/a.c\n" + twoHunks,
		"deeper":     "--- /usr/src/linux.orig/fs/a.c\n+++ /usr/src/linux/fs/a.c\n" + twoHunks,
		"backup":     "--- fs/a.c.orig\n+++ fs/a.c\n" + twoHunks,
		"subversion": "Index: fs/a.c\n===================================================================\n--- fs/a.c\n+++ fs/a.c\n" + twoHunks,
		"later":      "--- a/fs/a.c\n+++ b/fs/a.c\n" + strings.NewReplacer("@@ -4,3 +4,4", "@@ -9,3 +9,4", "@@ -32,3 +33,2", "@@ -38,3 +39,2").Replace(twoHunks),
		"no end":     "--- a/fs/a.c\n+++ b/fs/a.c\n" + strings.TrimSuffix(twoHunks, "\n"),
		"signature":  "fix it\n\n--- a/fs/a.c\n+++ b/fs/a.c\n" + twoHunks + "-- \n2.39.5\n\n",
		"documented": "--- a/MAINTAINERS\n+++ b/MAINTAINERS\n@@ -1 +1 @@\n-m\n+n\n--- a/fs/a.c\n+++ b/fs/a.c\n" + twoHunks,
	} {
		c, err := readPatch("p", []byte(text), root, DefaultFuzz)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if d := cmp.Diff(map[string]string{"fs/a.c": want}, map[string]string{"fs/a.c": string(c.files["fs/a.c"])}); d != "" || len(c.files) != 1 {
			t.Errorf("%s: %d files, %s", name, len(c.files), d)
		}
		lines := []patchgen.LineHunk{{OldStart: 5, OldLines: 1, NewStart: 5, NewLines: 2}, {OldStart: 33, OldLines: 1, NewStart: 34}}
		if d := cmp.Diff(lines, c.lines["fs/a.c"].Hunks); d != "" {
			t.Errorf("%s: %s", name, d)
		}
	}
}

// Of several places where a hunk fits, the nearest to the stated line is meant.
func TestNearestPlace(t *testing.T) {
	root := sourceTree(t)
	for at, want := range map[int]int{1: 25, 25: 25, 34: 25, 36: 45, 45: 45, 59: 45} {
		text := fmt.Sprintf("--- a/fs/a.c\n+++ b/fs/a.c\n@@ -%d,3 +%d,3 @@\n 24\n-25\n+X\n 26\n", at-1, at-1)
		c, err := readPatch("p", []byte(text), root, DefaultFuzz)
		if err != nil {
			t.Fatal(err)
		}
		got := strings.Split(string(c.files["fs/a.c"]), "\n")
		if got[want-1] != "X" || strings.Count(string(c.files["fs/a.c"]), "X") != 1 {
			t.Errorf("a hunk for line %d was not applied at %d", at, want)
		}
	}
	// A later hunk cannot be put in front of an earlier one.
	_, err := readPatch("p", []byte("--- a/fs/a.c\n+++ b/fs/a.c\n@@ -50,1 +50,1 @@\n-50\n+X\n@@ -51,1 +51,1 @@\n-5\n+Y\n"), root, DefaultFuzz)
	wantRefused(t, err, refuse.PatchDoesNotApply, "fs/a.c:51")
}

func wantRefused(t *testing.T, err error, id refuse.ID, where string) {
	t.Helper()
	if e, ok := refuse.As(err); !ok || e.ID != id || e.Where != where {
		t.Errorf("got %v, want %s at %s", err, id, where)
	}
}

func TestPatchEdges(t *testing.T) {
	root := sourceTree(t)
	apply := func(text string) (string, error) {
		c, err := readPatch("p", []byte(text), root, DefaultFuzz)
		if err != nil {
			return "", err
		}
		for _, b := range c.files {
			return string(b), nil
		}
		return "", nil
	}
	for text, want := range map[string]string{
		// A file whose last line does not end.
		"--- a/fs/b.h\n+++ b/fs/b.h\n@@ -1,2 +1,2 @@\n x\n-y\n\\ No newline at end of file\n+z\n\\ No newline at end of file\n": "x\nz",
		"--- a/fs/b.h\n+++ b/fs/b.h\n@@ -1,2 +1,2 @@\n x\n-y\n\\ No newline at end of file\n+z\n":                               "x\nz\n",
		// Without context.
		"--- a/fs/a.c\n+++ b/fs/a.c\n@@ -1 +0,0 @@\n-1\n": strings.TrimPrefix(numbered(), "1\n"),
	} {
		got, err := apply(text)
		if err != nil || got != want {
			t.Errorf("%q: %v: %s", text, err, cmp.Diff(want, got))
		}
	}
	for text, want := range map[string]struct {
		id    refuse.ID
		where string
	}{
		"--- a/fs/b.h\n+++ b/fs/b.h\n@@ -1,2 +1,2 @@\n x\n-y\n+z\n":             {refuse.PatchDoesNotApply, "fs/b.h:1"}, // the file's last line does not end
		"--- a/fs/a.c\n+++ b/fs/a.c\n@@ -1 +1 @@\n-1\r\n+2\r\n":                 {refuse.PatchDoesNotApply, "fs/a.c:1"},
		"--- a/fs/a.c\n+++ b/fs/a.c\n@@ -1 +1 @@\n-1\n+2\n@@ -2 +2 @\n-2\n+3\n": {refuse.PatchMalformed, "p"},
		"--- a/fs/a.c\n+++ b/fs/a.c\n@@ -1 +1 @@\n-1\n+2\n+3\n":                 {refuse.PatchMalformed, "p"},
		"--- a/fs/a.c\n+++ b/fs/a.c\n@@ -1,2 +1,1 @@\n-1\n+2\n":                 {refuse.PatchMalformed, "p"},
		"--- a/fs/a.c\n+++ b/fs/a.c\n@@ -1 +1 @@\n-1\n+2\n@@@ -1 -1 +1 @@@\n":   {refuse.PatchMalformed, "p"},
		"@@ -1 +1 @@\n-1\n+2\n":                                                                {refuse.PatchMalformed, "p"},
		"--- a/fs/a.c\n+++ /dev/null\n@@ -1 +0,0 @@\n-1\n":                                     {refuse.PatchScope, "fs/a.c"},
		"--- /dev/null\n+++ b/fs/new.c\n@@ -0,0 +1 @@\n+1\n":                                   {refuse.PatchScope, "fs/new.c"},
		"--- a/fs/a.c\n+++ b/fs/a.c\n@@ -99999999999999999999 +1 @@\n-1\n+2\n":                 {refuse.PatchMalformed, "p"},
		"--- a/fs/a.c\n+++ b/fs/a.c\n@@ -1,9223372036854775807 +1 @@\n-1\n+2\n":                {refuse.PatchMalformed, "p"},
		"diff --git a/fs/a.c b/fs/a.c\nold mode 100644\nnew mode 100755\n":                     {refuse.NothingChanged, "p"},
		"--- a/fs/a.c\n+++ b/fs/a.c\n@@ -60,0 +61 @@\n+end\n":                                  {refuse.PatchDoesNotApply, "fs/a.c:60"},
		"--- a/fs/../../etc/x.c\n+++ b/fs/../../etc/x.c\n@@ -1 +1 @@\n-1\n+2\n":                {refuse.PatchDoesNotApply, "etc/x.c"},
		"--- a/fs/a.c\n+++ b/fs/a.c\n@@ -9223372036854775807,1 +1,1 @@\n-none such\n+2\n":      {refuse.PatchDoesNotApply, "fs/a.c:9223372036854775807"},
		"diff --git a/fs/a.c b/fs/a.c\nindex 1..2\nGIT binary patch\nliteral 0\nHcmV?d00001\n": {refuse.PatchMalformed, "p"},
	} {
		_, err := apply(text)
		if e, ok := refuse.As(err); !ok || e.ID != want.id || e.Where != want.where {
			t.Errorf("%q: got %v, want %s at %s", text, err, want.id, want.where)
		}
	}
}

func TestDescribe(t *testing.T) {
	for preamble, want := range map[string]string{
		"Subject: [PATCH] a fix\n\n":                                    "a fix",
		"From: x\nSubject: [PATCH v3 07/12] a long\n\tsubject\nTo: y\n": "a long subject",
		"Subject: =?UTF-8?q?caf=C3=A9?=\n":                              "café",
		"just prose\n":                                                  "",
		"":                                                              "",
	} {
		c := &change{}
		c.describe(preamble)
		if c.subject != want {
			t.Errorf("%q gives %q, want %q", preamble, c.subject, want)
		}
	}
	c := &change{}
	c.describe("see CVE-2026-2000, CVE-2025-12345 and CVE-2026-2000; not XCVE-2026-2001 or CVE-26-1\n")
	if d := cmp.Diff([]string{"CVE-2025-12345", "CVE-2026-2000"}, c.cves); d != "" {
		t.Error(d)
	}
}
