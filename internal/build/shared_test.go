// SPDX-License-Identifier: Apache-2.0

package build_test

import (
	"debug/elf"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lupatch/lupatch/internal/refuse"
)

// Files of a patch define things for each other, in one object and across.
func TestSharedSymbols(t *testing.T) {
	patch, err := os.ReadFile("../live/testdata/shared.patch")
	if err != nil {
		t.Fatal(err)
	}
	needKernel(t)
	res, err := attempt(t, patch)
	if err != nil {
		t.Fatal(err)
	}
	u := readUpdate(t, res)
	u.check(t)
	got := map[string]int{}
	for _, y := range u.obj.Symbols {
		if strings.Contains(y.Name, "fix_") && y.Section != nil && y.Bind == elf.STB_GLOBAL {
			got[y.Name]++
		}
		if strings.HasPrefix(y.Name, ".klp.sym.e1000.e1000_get_msglevel,") {
			got["klp e1000_get_msglevel"]++
		}
	}
	want := map[string]int{"fix_count": 1, "fix_twice": 1, "fix_local.vmlinux": 1, "fix_local.e1000": 1, "klp e1000_get_msglevel": 1}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("-want +got\n%s", d)
	}
	if !slices.ContainsFunc(res.Manifest.Review, func(s string) bool { return strings.HasPrefix(s, "the patch exports fix_twice;") }) {
		t.Errorf("review: %q", res.Manifest.Review)
	}
}

// A function that moves from one file of the kernel to another: callers that
// are not part of the patch know the old one.
func TestMovedGlobal(t *testing.T) {
	tree := realTree(t)
	b, err := os.ReadFile(tree.Src + "/fs/proc/util.c")
	if err != nil {
		t.Fatal(err)
	}
	text := string(b)
	at := strings.Index(text, "unsigned name_to_int(")
	if at < 0 {
		t.Fatal("the source has changed; choose another function")
	}
	_, err = attempt(t, diffOf(t,
		edit{"fs/proc/util.c", text[at:], "int name_to_int_two(const struct qstr *qstr)\n{\n\treturn qstr->len;\n}\n"},
		edit{versionC, "static int version_proc_show", strings.TrimSpace(text[at:]) + "\n\nstatic int version_proc_show"}))
	refusal{refuse.AmbiguousSymbol, "name_to_int", []string{"moves from fs/proc/util.c to fs/proc/version.c"}}.check(t, err)
}
