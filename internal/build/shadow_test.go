// SPDX-License-Identifier: Apache-2.0

package build_test

import (
	"os"
	"testing"

	"github.com/lupatch/lupatch/internal/build"
	"github.com/lupatch/lupatch/internal/kbuild"
	"github.com/lupatch/lupatch/internal/lab/labtest"
	"github.com/lupatch/lupatch/kpatch"
)

// TestShadowIsBuiltOnce builds the kernel module and finds it again.
func TestShadowIsBuiltOnce(t *testing.T) {
	labtest.SkipIfShort(t)
	tree, err := kbuild.Open(t.Context(), kbuild.Options{Release: "6.1.0-47-amd64"})
	if err != nil {
		t.Fatal(err)
	}
	path, err := build.Shadow(t.Context(), tree)
	if err != nil {
		t.Fatal(err)
	}
	before, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	image, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if name, err := kpatch.ModuleName(image); err != nil || name != "lupatch_shadow" {
		t.Fatalf("its name is %q: %v", name, err)
	}
	again, err := build.Shadow(t.Context(), tree)
	if err != nil || again != path {
		t.Fatalf("the second time it is %q, %v; the first %q", again, err, path)
	}
	if after, err := os.Stat(again); err != nil || !after.ModTime().Equal(before.ModTime()) {
		t.Fatalf("it was built again: %v", err)
	}
}
