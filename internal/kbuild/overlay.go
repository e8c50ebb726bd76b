// SPDX-License-Identifier: Apache-2.0

package kbuild

import (
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/lupatch/lupatch/internal/refuse"
)

// Overlay is a private likeness of a tree's source with some files changed. The
// folders on the way to a changed file are real, all else is links, so that it
// costs milliseconds. It is safe for concurrent use.
type Overlay struct {
	// Root is the likeness's root.
	Root string
	// Include is a folder with headers that changed files may include besides
	// the kernel's own; empty for none. It is to be set before the first use.
	Include string

	src     string
	changed map[string][]byte
	bases   map[string]bool // file names in changed

	mu   sync.Mutex
	real map[string]bool
	// made counts the folders made real: a compilation during which it changes
	// may have read a file by a way that is gone when it is looked at. mu holds it
	// together with the folders.
	made int64
}

// Overlay lays changed files (paths relative to the tree's root; nil means
// removed) over the source. The caller must Close it.
func (t *Tree) Overlay(changed map[string][]byte) (*Overlay, error) {
	o := &Overlay{src: t.Src, changed: map[string][]byte{}, bases: map[string]bool{}, real: map[string]bool{".": true}}
	for p, b := range changed {
		clean := path.Clean(p)
		if path.IsAbs(clean) || clean == ".." || strings.HasPrefix(clean, "../") || clean == "." {
			return nil, refuse.New(refuse.PatchScope, p, "the path leads out of the source tree")
		}
		// A link on the way would make the change appear in two places.
		for dir := path.Dir(clean); dir != "."; dir = path.Dir(dir) {
			if st, err := os.Lstat(filepath.Join(t.Src, dir)); err == nil && !st.IsDir() {
				return nil, refuse.New(refuse.PatchScope, p, "%s is not a folder in the source tree", dir)
			}
		}
		o.changed[clean] = b
		o.bases[path.Base(clean)] = true
		withParents(o.real, path.Dir(clean))
	}
	root, err := os.MkdirTemp("", "lupatch-overlay-")
	if err != nil {
		return nil, fmt.Errorf("laying changes over the source: %w", err)
	}
	if o.Root, err = filepath.EvalSymlinks(root); err == nil {
		err = o.fill(o.Root, o.real)
	}
	if err != nil {
		os.RemoveAll(root)
		return nil, fmt.Errorf("laying changes over the source: %w", err)
	}
	return o, nil
}

// fill lays out the folders of real below to, with the changes in them.
func (o *Overlay) fill(to string, real map[string]bool) error {
	err := mirror(o.src, to, real, func(rel string, _ fs.DirEntry) bool {
		_, is := o.changed[rel]
		return is
	})
	if err != nil {
		return err
	}
	for p, b := range o.changed {
		if b == nil || !real[path.Dir(p)] {
			continue
		}
		if err := os.WriteFile(filepath.Join(to, p), b, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// Close removes the likeness.
func (o *Overlay) Close() error { return os.RemoveAll(o.Root) }

// Changed says whether the overlay changes a path of the tree.
func (o *Overlay) Changed(rel string) bool {
	_, ok := o.changed[path.Clean(rel)]
	return ok
}

// leaks looks for files among a compilation's dependencies that are the
// original of a changed file: "dir/../x.h" through a linked folder leads back
// into the source. It makes those folders real and says whether it made any; the
// compilation must then be repeated.
func (o *Overlay) leaks(deps []string) (bool, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	any := false
	for _, dep := range deps {
		if !o.bases[path.Base(dep)] {
			continue
		}
		abs := dep
		real, err := filepath.EvalSymlinks(abs)
		if err != nil {
			return false, err
		}
		rel, ok := strings.CutPrefix(real, o.src+"/")
		if !ok || !o.Changed(rel) {
			continue
		}
		dir, ok := o.linkOnTheWay(abs)
		if !ok {
			return false, fmt.Errorf("compiling with changed files: %s is read from the unchanged source by a way that cannot be changed", rel)
		}
		if err := o.materialise(dir); err != nil {
			return false, fmt.Errorf("laying changes over the source: %w", err)
		}
		any = true
	}
	return any, nil
}

// linkOnTheWay is the first linked folder of the overlay on a path.
func (o *Overlay) linkOnTheWay(p string) (string, bool) {
	rest, ok := strings.CutPrefix(p, o.Root+"/")
	if !ok {
		return "", false
	}
	at := "."
	// Not path.Dir: it would take "b/.." out, which is what is looked for.
	for part := range strings.SplitSeq(rest[:strings.LastIndexByte(rest, '/')+1], "/") {
		// Up to here all is real, so that ".." means what it says.
		at = path.Join(at, part)
		if st, err := os.Lstat(filepath.Join(o.Root, at)); err == nil && st.Mode()&fs.ModeSymlink != 0 {
			return at, true
		}
	}
	return "", false
}

// state tells whether folders were made real between two calls.
func (o *Overlay) state() int64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.made
}

// materialise turns a linked folder into a real one in one step: other
// compilations may be reading it. The caller holds mu.
func (o *Overlay) materialise(dir string) error {
	if o.real[dir] {
		return nil
	}
	tmp, err := os.MkdirTemp(o.Root, ".lupatch-")
	if err != nil {
		return err
	}
	if err := o.fill(tmp, map[string]bool{dir: true}); err != nil {
		return err
	}
	place := filepath.Join(o.Root, dir)
	if err := unix.Renameat2(unix.AT_FDCWD, filepath.Join(tmp, dir), unix.AT_FDCWD, place, unix.RENAME_EXCHANGE); err != nil {
		return &os.LinkError{Op: "exchange", Old: place, New: tmp, Err: err}
	}
	o.real[dir] = true
	o.made++
	return os.RemoveAll(tmp)
}
