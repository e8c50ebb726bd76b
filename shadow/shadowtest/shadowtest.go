// SPDX-License-Identifier: Apache-2.0

// Package shadowtest makes drivers to replace others by, in tests: the
// distribution's, of the kernel's version or the newest, and altered ones that
// differ in a known way or fail in one. They are compiled against a kernel by the
// same code as updates are, once, and kept.
package shadowtest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/renameio/v2"

	"github.com/lupatch/lupatch/internal/kbuild"
)

// Driver gives the path of a driver's .ko in a variant, for a kernel: a release of
// the distribution, or a build folder with a Module.symvers. The file has the name
// of the module (e1000.ko, virtio_net.ko) and must not be changed. It skips the test
// in short mode and fails it if the driver cannot be made.
func Driver(t testing.TB, kernel, name, variant string) string {
	t.Helper()
	if testing.Short() {
		t.Skip("compiles drivers")
	}
	p, err := Make(t.Context(), kernel, name, variant)
	if err != nil {
		t.Fatalf("making driver %s, %s: %v", name, variant, err)
	}
	return p
}

// Make is Driver outside of tests.
func Make(ctx context.Context, kernel, name, variant string) (string, error) {
	dir, err := folder(name)
	if err != nil {
		return "", err
	}
	tree, err := tree(ctx, kernel)
	if err != nil {
		return "", err
	}
	d := kbuild.Driver{Root: tree.KernelSrc, Dir: dir, Module: name, Unresolved: variant == NoLoad}
	switch variant {
	case Same, WrongVermagic:
	case Newer:
		d.Root, _, err = tree.Source(ctx, "")
	default:
		d.Changed, err = changed(d.Root, name, variant)
	}
	if err != nil {
		return "", err
	}
	key, err := keyOf(tree, d, variant)
	if err != nil {
		return "", err
	}
	file := filepath.Join(tree.Cache(), "drivers", key, name+".ko")
	if _, err := os.Stat(file); err == nil {
		return file, nil
	}
	ko, err := tree.BuildDriver(ctx, d)
	if err != nil {
		return "", err
	}
	if variant == WrongVermagic {
		if ko, err = otherVermagic(ko, tree.Release); err != nil {
			return "", err
		}
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return "", err
	}
	return file, renameio.WriteFile(file, ko, 0o644)
}

var (
	treesMu sync.Mutex
	trees   = map[string]*kbuild.Tree{}
)

func tree(ctx context.Context, kernel string) (*kbuild.Tree, error) {
	treesMu.Lock()
	defer treesMu.Unlock()
	if t := trees[kernel]; t != nil {
		return t, nil
	}
	opt := kbuild.Options{Release: kernel}
	if strings.Contains(kernel, "/") {
		opt = kbuild.Options{Dir: kernel}
	}
	t, err := kbuild.Open(ctx, opt)
	if err == nil {
		trees[kernel] = t
	}
	return t, err
}

// keyOf names what goes into a driver: the kernel that it is for, its source and
// what was altered.
func keyOf(t *kbuild.Tree, d kbuild.Driver, variant string) (string, error) {
	h := sha256.New()
	put := func(name string, content []byte) {
		fmt.Fprintf(h, "%s\x00%d\x00", name, len(content))
		h.Write(content)
	}
	put("driver 1", []byte(d.Module+" "+variant+" "+t.Release+" "+t.Config["CONFIG_CC_VERSION_TEXT"]))
	for _, name := range []string{".config", "Module.symvers"} {
		b, err := os.ReadFile(filepath.Join(t.Obj, name))
		if err != nil {
			return "", fmt.Errorf("reading the kernel's build folder: %w", err)
		}
		put(name, b)
	}
	err := filepath.WalkDir(filepath.Join(d.Root, d.Dir), func(p string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if e.IsDir() {
			if p != filepath.Join(d.Root, d.Dir) && d.Dir == "drivers/net" {
				return fs.SkipDir // a thousand files of others
			}
			return nil
		}
		if ext := filepath.Ext(p); ext != ".c" && ext != ".h" && !strings.HasPrefix(e.Name(), "Makefile") {
			return nil
		}
		rel, _ := filepath.Rel(d.Root, p)
		b, ok := d.Changed[rel]
		if !ok {
			if b, err = os.ReadFile(p); err != nil {
				return err
			}
		}
		put(rel, b)
		return nil
	})
	return hex.EncodeToString(h.Sum(nil))[:24], err
}

// otherVermagic alters the release that a module says it is for, to one of the same
// length.
func otherVermagic(ko []byte, release string) ([]byte, error) {
	old := []byte("vermagic=" + release + " ")
	if bytes.Count(ko, old) != 1 {
		return nil, fmt.Errorf("the module does not have one vermagic of %s", release)
	}
	other := bytes.Clone(old)
	other[len("vermagic=")] ^= 1 // 6 becomes 7
	return bytes.Replace(ko, old, other, 1), nil
}
