// SPDX-License-Identifier: Apache-2.0

package build_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/rogpeppe/go-internal/diff"

	"github.com/lupatch/lupatch/internal/build"
	"github.com/lupatch/lupatch/internal/kbuild"
	"github.com/lupatch/lupatch/internal/refuse"
)

const (
	versionC = "fs/proc/version.c"
	bcdH     = "include/linux/bcd.h"
	meminfoC = "fs/proc/meminfo.c"
	e1000C   = "drivers/net/ethernet/intel/e1000/e1000_main.c"
	e1000H   = "drivers/net/ethernet/intel/e1000/e1000.h"
	ramCoreC = "fs/pstore/ram_core.c"
)

var sharedTree = sync.OnceValues(func() (*kbuild.Tree, error) {
	return kbuild.Open(context.Background(), kbuild.Options{Release: release})
})

// realTree is the source of the kernel under test, opened once.
func realTree(t testing.TB) *kbuild.Tree {
	t.Helper()
	needKernel(t)
	tree, err := sharedTree()
	if err != nil {
		t.Fatal(err)
	}
	return tree
}

// edit replaces a text that occurs once in a file of the source.
type edit struct{ file, old, new string }

// diffOf writes edits as the diff that `git diff` would give.
func diffOf(t testing.TB, edits ...edit) []byte {
	t.Helper()
	tree := realTree(t)
	old, new := map[string][]byte{}, map[string][]byte{}
	var order []string
	for _, e := range edits {
		if old[e.file] == nil {
			b, err := os.ReadFile(filepath.Join(tree.Src, e.file))
			if err != nil {
				t.Fatal(err)
			}
			old[e.file], new[e.file] = b, b
			order = append(order, e.file)
		}
		if n := bytes.Count(new[e.file], []byte(e.old)); n != 1 {
			t.Fatalf("%q occurs %d times in %s", e.old, n, e.file)
		}
		new[e.file] = bytes.Replace(new[e.file], []byte(e.old), []byte(e.new), 1)
	}
	var out bytes.Buffer
	for _, f := range order {
		d := diff.Diff("a/"+f, old[f], "b/"+f, new[f])
		_, hunks, _ := bytes.Cut(d, []byte("\n")) // "diff a/… b/…" is not git's
		fmt.Fprintf(&out, "diff --git a/%s b/%s\n%s", f, f, hunks)
	}
	return out.Bytes()
}

// attempt builds an update from a patch. The output file is there if and only
// if there is no error.
func attempt(t testing.TB, patch []byte, options ...func(*build.Options)) (*build.Result, error) {
	t.Helper()
	dir := t.TempDir()
	opt := build.Options{Patch: filepath.Join(dir, "fix.patch"), Release: release, Output: filepath.Join(dir, "out", "fix.ko")}
	if err := os.Mkdir(filepath.Dir(opt.Output), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(opt.Patch, patch, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, o := range options {
		o(&opt)
	}
	res, err := build.Run(t.Context(), opt)
	written, rerr := os.ReadDir(filepath.Dir(opt.Output))
	if rerr != nil {
		t.Fatal(rerr)
	}
	if err != nil && (res != nil || len(written) > 0) {
		t.Errorf("with the error came a result (%v) and files %v", res, written)
	}
	if err == nil && (len(written) != 1 || res.Path != opt.Output) {
		t.Errorf("written to %s: %v", res.Path, written)
	}
	return res, err
}

// accept builds an update that there has to be; a refusal is shown with its help.
func accept(t *testing.T, edits []edit) *build.Result {
	t.Helper()
	res, err := attempt(t, diffOf(t, edits...))
	if err != nil {
		if e, ok := refuse.As(err); ok {
			t.Log(e.Help)
		}
		t.Fatal(err)
	}
	return res
}

// checkSaid looks for words in one line of the review and one of the notes, and
// checks the update's file.
func checkSaid(t *testing.T, res *build.Result, review, note []string) {
	t.Helper()
	if !hasLine(res.Manifest.Review, review) {
		t.Errorf("no line of the review says %q: %q", review, res.Manifest.Review)
	}
	if !hasLine(res.Notes, note) {
		t.Errorf("no note says %q: %q", note, res.Notes)
	}
	readUpdate(t, res).check(t)
}

// refusal is what a patch has to be refused with.
type refusal struct {
	id    refuse.ID
	where string
	words []string
}

// check holds a refusal to what is promised of all of them: an identifier, the
// place, and one sentence that a user understands.
func (r refusal) check(t *testing.T, err error) {
	t.Helper()
	wantRefusal(t, err, r.id, r.words...)
	e, _ := refuse.As(err)
	if e.Where != r.where {
		t.Errorf("the place named is %q, want %q", e.Where, r.where)
	}
	if e.Advice() == "" {
		t.Error("it does not say what to do")
	}
	if e.Detail == "" || strings.ContainsAny(e.Detail, "\n\r\x00") || len(e.Detail) > 300 {
		t.Errorf("%q is not one sentence", e.Detail)
	}
	if home, err := os.UserCacheDir(); err == nil && strings.Contains(e.Detail, home) || strings.Contains(e.Detail, os.TempDir()+"/") {
		t.Errorf("%q names a private folder", e.Detail)
	}
}
