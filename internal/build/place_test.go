// SPDX-License-Identifier: Apache-2.0

package build

import (
	"strings"
	"testing"

	"github.com/lupatch/lupatch/internal/refuse"
)

// The lines of the source are their numbers, but 40 to 49 repeat 20 to 29.
func TestFuzz(t *testing.T) {
	root := sourceTree(t)
	hunk := func(lines string) string { return "--- a/fs/a.c\n+++ b/fs/a.c\n" + lines }
	for name, c := range map[string]struct {
		text string
		fuzz int
		note bool // placed, and said so; otherwise refused
	}{
		"one outer line": {hunk("@@ -3,5 +3,5 @@\n 3\n 4\n-5\n+X\n 6\n seven\n"), 1, true},
		"both sides":     {hunk("@@ -3,5 +3,5 @@\n three\n 4\n-5\n+X\n 6\n seven\n"), 1, true},
		"two lines":      {hunk("@@ -2,7 +2,7 @@\n two\n three\n 4\n-5\n+X\n 6\n 7\n 8\n"), 2, true},
		"not so many":    {hunk("@@ -2,7 +2,7 @@\n two\n three\n 4\n-5\n+X\n 6\n 7\n 8\n"), 1, false},
		"not allowed":    {hunk("@@ -3,5 +3,5 @@\n 3\n 4\n-5\n+X\n 6\n seven\n"), 0, false},
		"several places": {hunk("@@ -23,4 +23,4 @@\n x\n 24\n-25\n+X\n 26\n"), 2, false},
		"a changed line": {hunk("@@ -4,3 +4,3 @@\n 4\n-five\n+X\n 6\n"), 2, false},
		"all of it":      {hunk("@@ -4,2 +4,3 @@\n four\n+X\n five\n"), 2, false},
	} {
		ch, err := readPatch("p", []byte(c.text), root, c.fuzz)
		if !c.note {
			if e, ok := refuse.As(err); !ok || e.ID != refuse.PatchDoesNotApply {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got := strings.Split(string(ch.files["fs/a.c"]), "\n"); got[4] != "X" || got[3] != "4" || got[5] != "6" {
			t.Errorf("%s: %q", name, got[:8])
		}
		if len(ch.inexact) != 1 || !strings.Contains(ch.inexact[0], "fs/a.c:") {
			t.Errorf("%s: %q", name, ch.inexact)
		}
	}
}
