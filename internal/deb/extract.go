// SPDX-License-Identifier: Apache-2.0

package deb

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"time"
)

// progressStep is how many unpacked bytes pass between two progress calls.
const progressStep = 4 << 20

// extract writes the wanted entries of a tar stream below dir. Everything goes
// through os.Root: neither "..", nor absolute names, nor symbolic links of the
// archive lead outside.
func (c *Cache) extract(ctx context.Context, r io.Reader, dir, what string, paths []string) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	x := extractor{root: root, met: map[string]bool{}, times: map[string]time.Time{}}
	tr := tar.NewReader(r)
	var done, told int64
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		h, err := tr.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		if err := x.entry(h, tr, paths); err != nil {
			return fmt.Errorf("writing %s: %w", h.Name, err)
		}
		if done += h.Size; done-told >= progressStep {
			told = done
			c.progress("unpacking "+what, done, 0)
		}
	}
	for _, p := range paths {
		if !x.met[p] {
			return fmt.Errorf("the package has no %s", p)
		}
	}
	c.progress("unpacking "+what, done, done)
	return x.finish()
}

type extractor struct {
	root  *os.Root
	met   map[string]bool
	times map[string]time.Time
}

func (x *extractor) entry(h *tar.Header, r io.Reader, paths []string) error {
	name := path.Clean(strings.TrimLeft(h.Name, "/"))
	if name == "." {
		return nil
	}
	if !fs.ValidPath(name) {
		return errors.New("the name leads outside the package")
	}
	if !x.wanted(name, paths) {
		return nil
	}
	mode := h.FileInfo().Mode().Perm()
	if dir := path.Dir(name); dir != "." && h.Typeflag != tar.TypeDir {
		if err := x.root.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	switch h.Typeflag {
	case tar.TypeDir:
		x.times[name] = h.ModTime
		return x.root.MkdirAll(name, 0o755)
	case tar.TypeReg:
		if err := x.file(name, mode, r); err != nil {
			return err
		}
		return x.root.Chtimes(name, h.ModTime, h.ModTime)
	case tar.TypeSymlink:
		return x.root.Symlink(h.Linkname, name)
	case tar.TypeLink:
		return x.root.Link(path.Clean(strings.TrimLeft(h.Linkname, "/")), name)
	}
	// Devices and sockets have no use in a cache, and making them needs root.
	return nil
}

func (x *extractor) file(name string, mode fs.FileMode, r io.Reader) error {
	f, err := x.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode|0o600)
	if err != nil {
		return err
	}
	if _, err := io.Copy(f, r); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}

// finish sets the times of folders, which writing into them has changed.
func (x *extractor) finish() error {
	for name, t := range x.times {
		if err := x.root.Chtimes(name, t, t); err != nil {
			return err
		}
	}
	return nil
}

func (x *extractor) wanted(name string, paths []string) bool {
	if len(paths) == 0 {
		return true
	}
	for _, p := range paths {
		if name == p || strings.HasPrefix(name, p+"/") {
			x.met[p] = true
			return true
		}
	}
	return false
}
