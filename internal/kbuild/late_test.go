// SPDX-License-Identifier: Apache-2.0

package kbuild

import (
	"slices"
	"strings"
	"testing"

	"github.com/lupatch/lupatch/internal/deb"
)

// TestLateObjtool asks real makefiles: one kernel runs objtool on each object,
// the other on what is linked, and both for a file of the kernel and one of a
// module of several objects.
func TestLateObjtool(t *testing.T) {
	if testing.Short() {
		t.Skip("needs kernels' packages")
	}
	cache, err := deb.New("")
	if err != nil {
		t.Fatal(err)
	}
	backport, _, err := cache.NewestBackport(t.Context(), "6.12")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		release string
		late    bool
	}{{"6.1.0-47-amd64", false}, {backport, true}} {
		tree, err := Open(t.Context(), Options{Release: c.release})
		if err != nil {
			t.Fatal(err)
		}
		for source, module := range map[string]bool{"fs/proc/version.c": false, "drivers/net/ethernet/intel/e1000/e1000_main.c": true, "drivers/net/mii.c": true} {
			tu, err := tree.TU(t.Context(), source)
			if err != nil {
				t.Fatal(err)
			}
			if (tu.Late != nil) != c.late || (len(tu.Objtool) > 0) == c.late {
				t.Errorf("%s %s: at once %q, late %q", c.release, source, tu.Objtool, tu.Late)
				continue
			}
			if !c.late {
				continue
			}
			if slices.Contains(tu.Late, "--module") != module || !slices.Contains(tu.Late, linkedOption) || tu.Late[len(tu.Late)-1] != tu.Object || !strings.HasSuffix(tu.Late[0], "/objtool") {
				t.Errorf("%s %s: %q", c.release, source, tu.Late)
			}
		}
	}
}
