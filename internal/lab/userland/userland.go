// SPDX-License-Identifier: Apache-2.0

// Package userland takes programs out of Debian packages for a lab host: the
// packages that are asked for, and of what they depend on the shared libraries
// that their programs are linked with. Nothing is installed.
package userland

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"sort"
	"strings"

	"github.com/lupatch/lupatch/internal/deb"
)

// Entry is a file of the guest.
type Entry struct {
	// Path is absolute in the guest, without leading slash.
	Path string
	// Host is the file that has the content; empty for a symbolic link.
	Host string
	// Link is where a symbolic link points.
	Link string
	Mode fs.FileMode
}

// unneeded are parts of packages that no program of a lab host reads. The
// hardware database of udev alone is 9 MB.
var unneeded = []string{
	"usr/share/bash-completion", "usr/share/doc", "usr/share/i18n", "usr/share/info", "usr/share/lintian", "usr/share/locale",
	"usr/share/man", "usr/share/bug", "usr/share/pkgconfig", "usr/share/polkit-1", "usr/share/zsh", "usr/share/systemd", "usr/include",
	"usr/lib/udev/hwdb.d", "lib/udev/hwdb.d", "usr/lib/systemd/catalog", "usr/share/initramfs-tools", "usr/share/apport",
}

// Collect gives the files of packages, and the libraries that their programs
// need, by path. The newest version in the cache will do; else the archive's
// newest one is fetched. The same packages always give the same paths.
func Collect(ctx context.Context, cache *deb.Cache, packages []string) ([]Entry, error) {
	u := &collector{cache: cache, files: map[string]Entry{}, libraries: map[string]library{}, visited: map[string]bool{}}
	if err := cache.Prefetch(ctx, packages...); err != nil {
		return nil, err
	}
	for _, pkg := range packages {
		if err := u.whole(ctx, pkg); err != nil {
			return nil, fmt.Errorf("taking programs out of %s: %w", pkg, err)
		}
	}
	for level := packages; len(level) > 0; {
		var err error
		if level, err = u.dependencies(ctx, level); err != nil {
			return nil, err
		}
	}
	if err := u.link(); err != nil {
		return nil, err
	}
	var all []Entry
	for _, e := range u.files {
		all = append(all, e)
	}
	sort.Slice(all, func(i, j int) bool { return all[i].Path < all[j].Path })
	return all, nil
}

type collector struct {
	cache     *deb.Cache
	files     map[string]Entry
	libraries map[string]library // by the name that programs ask for
	visited   map[string]bool
}

// whole takes all of a package.
func (u *collector) whole(ctx context.Context, pkg string) error {
	dir, err := u.unpack(ctx, pkg)
	if err != nil {
		return err
	}
	return walk(dir, func(name string, d fs.DirEntry) error {
		for _, p := range unneeded {
			if name == p || strings.HasPrefix(name, p+"/") {
				return skip(d)
			}
		}
		if d.IsDir() {
			return nil
		}
		return u.add(dir, name)
	})
}

// holdsLibraries tells packages of shared libraries, which Debian names after
// them, from others (users, services, debconf), which a lab host does without.
func holdsLibraries(pkg string) bool { return strings.HasPrefix(pkg, "lib") || pkg == "zlib1g" }

// dependencies makes the libraries of what packages depend on known, and gives
// the packages that have them.
func (u *collector) dependencies(ctx context.Context, packages []string) (next []string, err error) {
	var sets [][]string
	var first []string
	for _, pkg := range packages {
		depends, err := u.cache.Depends(ctx, pkg, u.cache.AnyVersion(pkg))
		if err != nil {
			return nil, err
		}
		for _, alternatives := range depends {
			if a := alternatives[0]; holdsLibraries(a) && !u.visited[a] {
				u.visited[a] = true
				sets, first = append(sets, alternatives), append(first, a)
			}
		}
	}
	if err := u.cache.Prefetch(ctx, first...); err != nil {
		return nil, err
	}
	for _, alternatives := range sets {
		pkg, err := u.anyOf(ctx, alternatives)
		if err != nil {
			return nil, fmt.Errorf("looking for libraries in %s: %w", strings.Join(alternatives, ", "), err)
		}
		next = append(next, pkg)
	}
	return next, nil
}

// anyOf takes the first alternative that there is.
func (u *collector) anyOf(ctx context.Context, alternatives []string) (pkg string, err error) {
	for _, pkg := range alternatives {
		var dir string
		if dir, err = u.unpack(ctx, pkg); deb.IsUnavailable(err) {
			continue
		}
		if err == nil {
			err = u.index(dir)
		}
		return pkg, err
	}
	return "", err
}

func (u *collector) unpack(ctx context.Context, pkg string) (string, error) {
	return u.cache.Unpack(ctx, pkg, u.cache.AnyVersion(pkg))
}

// inGuest maps a path of a package to the lab host's root, in which bin is the
// only folder of programs.
func inGuest(name string) string {
	for _, dir := range []string{"usr/sbin/", "usr/bin/", "sbin/"} {
		if rest, ok := strings.CutPrefix(name, dir); ok {
			return "bin/" + rest
		}
	}
	return name
}

// add takes one file. A link that would lead to itself, as sbin/x → /bin/x does
// where both are one folder, is left out; so is what is there already.
func (u *collector) add(dir, name string) error {
	host := filepath.Join(dir, name)
	info, err := os.Lstat(host)
	if err != nil {
		return err
	}
	e := Entry{Path: inGuest(name), Mode: info.Mode().Perm()}
	have, there := u.files[e.Path]
	switch {
	case info.Mode().IsRegular():
		e.Host = host
		if there && have.Host != "" {
			return nil
		}
	case info.Mode()&fs.ModeSymlink != 0:
		if e.Link, err = os.Readlink(host); err != nil {
			return err
		}
		if there || inGuest(target(name, e.Link)) == e.Path {
			return nil
		}
		e.Link = "/" + inGuest(target(name, e.Link))
	default:
		return nil
	}
	u.files[e.Path] = e
	return nil
}

// target is what a link in a package points at, relative to its root.
func target(name, link string) string {
	if !path.IsAbs(link) {
		link = path.Join("/", path.Dir(name), link)
	}
	return strings.TrimPrefix(path.Clean(link), "/")
}

// walk calls f with every path of a package.
func walk(dir string, f func(name string, d fs.DirEntry) error) error {
	return filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(dir, p)
		if err != nil || name == "." {
			return err
		}
		return f(name, d)
	})
}

func skip(d fs.DirEntry) error {
	if d.IsDir() {
		return filepath.SkipDir
	}
	return nil
}

// errNoLibrary says that no package has what a program is linked with.
var errNoLibrary = errors.New("no package that is depended on has this library")
