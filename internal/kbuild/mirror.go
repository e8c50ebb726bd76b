// SPDX-License-Identifier: Apache-2.0

package kbuild

import (
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
)

// mirror makes the folder to as a likeness of from: the folders in real
// (relative, "." is the root) are real folders, everything else in them is a
// symbolic link to the original. Entries for which skip says yes are left out.
func mirror(from, to string, real map[string]bool, skip func(rel string, d fs.DirEntry) bool) error {
	for dir := range real {
		if err := os.MkdirAll(filepath.Join(to, dir), 0o755); err != nil {
			return err
		}
		entries, err := os.ReadDir(filepath.Join(from, dir))
		if err != nil {
			if os.IsNotExist(err) { // a new folder
				continue
			}
			return err
		}
		for _, d := range entries {
			rel := path.Join(dir, d.Name())
			if real[rel] || skip != nil && skip(rel, d) {
				continue
			}
			if err := os.Symlink(filepath.Join(from, rel), filepath.Join(to, rel)); err != nil {
				return err
			}
		}
	}
	return nil
}

// withParents adds all folders above dir.
func withParents(set map[string]bool, dir string) {
	for dir = path.Clean(dir); !set[dir]; dir = path.Dir(dir) {
		set[dir] = true
		if dir == "." {
			return
		}
	}
}

// configured are the products of configuring a kernel tree in place.
var configured = map[string]bool{".config": true, "include/config": true, "include/generated": true, "arch/x86/include/generated": true}

// cleanSource gives a source root that holds no build products in the given
// folders, because make would take those for done. For a source that is clean
// anyhow that is the source itself.
func (t *Tree) cleanSource(dirs ...string) (root string, tidy func(), err error) {
	if t.Kind == KindPackages || t.Kind == KindTree && t.UserObj != t.Src {
		return t.Src, func() {}, nil
	}
	real := map[string]bool{}
	for _, dir := range dirs {
		withParents(real, dir)
		err := filepath.WalkDir(filepath.Join(t.Src, dir), func(p string, d fs.DirEntry, err error) error {
			if err == nil && d.IsDir() {
				if d.Name() == ".git" {
					return fs.SkipDir
				}
				rel, _ := filepath.Rel(t.Src, p)
				real[rel] = true
			}
			return nil
		})
		if err != nil {
			return "", nil, err
		}
	}
	withParents(real, "include")
	if t.Kind == KindTree {
		withParents(real, "arch/x86/include")
	}
	if root, err = os.MkdirTemp("", "lupatch-view-"); err != nil {
		return "", nil, err
	}
	if root, err = filepath.EvalSymlinks(root); err != nil {
		return "", nil, err
	}
	tidy = func() { os.RemoveAll(root) }
	err = mirror(t.Src, root, real, func(rel string, d fs.DirEntry) bool {
		return !d.IsDir() && isProduct(rel) || t.Kind == KindTree && configured[rel]
	})
	if err != nil {
		tidy()
		return "", nil, fmt.Errorf("laying out a view of %s: %w", t.Src, err)
	}
	return root, tidy, nil
}
