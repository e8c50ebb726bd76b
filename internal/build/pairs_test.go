// SPDX-License-Identifier: Apache-2.0

package build_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/lupatch/lupatch/internal/build"
	"github.com/lupatch/lupatch/internal/refuse"
)

func TestPairs(t *testing.T) {
	realTree(t)
	got, err := build.Pairs(t.Context(), build.Options{Patch: "../../examples/e1000-mtu-limit.patch", Release: release})
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != 1 || got[0].Source != e1000C || got[0].Unit != "e1000" || got[0].Lines == nil || len(got[0].Lines.Hunks) == 0 {
		t.Fatalf("%+v", got)
	}
	old, errOld := os.ReadFile(got[0].Old)
	new, errNew := os.ReadFile(got[0].New)
	if err := errors.Join(errOld, errNew); err != nil || bytes.Equal(old, new) {
		t.Errorf("two objects of %d and %d bytes, %v", len(old), len(new), err)
	}
}

func TestPairsRefused(t *testing.T) {
	realTree(t)
	p := filepath.Join(t.TempDir(), "p.patch")
	if err := os.WriteFile(p, []byte("--- a/"+e1000C+"\n+++ b/"+e1000C+"\n@@ -1,1 +1,1 @@\n-not there\n+there\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	got, err := build.Pairs(t.Context(), build.Options{Patch: p, Release: release})
	if e, ok := refuse.As(err); !ok || e.ID != refuse.PatchDoesNotApply || got != nil {
		t.Errorf("%+v, %v", got, err)
	}
}
