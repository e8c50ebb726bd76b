// SPDX-License-Identifier: Apache-2.0

package kbuild

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// searchTree holds the search paths of all compilations, joined where they begin
// alike: nearly all begin with the same folders, in which nearly all is found.
type searchTree struct {
	children []*searchTree
	dir      string
}

// add joins one compilation's folders, those that exist.
func (s *searchTree) add(files *fileSystem, dirs []string) {
	for _, d := range dirs {
		f := files.folder(strings.TrimRight(d, "/"))
		if len(f.entries) == 0 {
			continue
		}
		d = f.real
		var next *searchTree
		for _, c := range s.children {
			if c.dir == d {
				next = c
				break
			}
		}
		if next == nil {
			next = &searchTree{dir: d}
			s.children = append(s.children, next)
		}
		s = next
	}
}

// find calls found with what any of the compilations would read; with all set,
// also with what stands in folders further behind (#include_next).
func (s *searchTree) find(files *fileSystem, name string, all bool, found func(path string)) {
	for _, c := range s.children {
		p, ok := files.file(c.dir + "/" + name)
		if ok {
			found(p)
		}
		if !ok || all {
			c.find(files, name, all, found)
		}
	}
}

// fileSystem remembers what folders hold. It is for one goroutine.
type fileSystem struct{ dirs map[string]*folder }

type folder struct {
	real    string
	entries map[string]fs.FileMode
}

func newFileSystem() *fileSystem { return &fileSystem{dirs: map[string]*folder{}} }

// file gives the place of a file without links on the way, if there is one. The
// path is absolute; it is not cleaned before, because "link/.." is not nothing.
func (f *fileSystem) file(p string) (string, bool) {
	i := strings.LastIndexByte(p, '/')
	d, base := f.folder(p[:i]), p[i+1:]
	mode, ok := d.entries[base]
	switch {
	case !ok || mode.IsDir():
		return "", false
	case mode&fs.ModeSymlink != 0:
		real, err := filepath.EvalSymlinks(p)
		if err != nil || isDir(real) {
			return "", false
		}
		return real, true
	}
	return d.real + "/" + base, true
}

// folder reads a folder, unless the one above shows that there is none: most of
// those asked for do not exist.
func (f *fileSystem) folder(dir string) *folder {
	if d, ok := f.dirs[dir]; ok {
		return d
	}
	d := &folder{}
	f.dirs[dir] = d
	if i := strings.LastIndexByte(dir, '/'); i >= 0 {
		above := f.folder(dir[:i])
		mode, ok := above.entries[dir[i+1:]]
		switch name := dir[i+1:]; {
		case name == "" || name == ".":
			*d = *above
			return d
		case name == "..":
			*d = *f.folder(above.real[:max(strings.LastIndexByte(above.real, '/'), 0)])
			return d
		case mode.IsDir():
			d.real = above.real + "/" + dir[i+1:]
		case !ok || mode&fs.ModeSymlink == 0:
			return d
		default:
			real, err := filepath.EvalSymlinks(dir)
			if err != nil {
				return d
			}
			d.real = real
		}
	}
	// A folder that cannot be read holds nothing that a compiler would find.
	entries, err := os.ReadDir(d.real + "/")
	if err != nil {
		return d
	}
	d.entries = make(map[string]fs.FileMode, len(entries))
	for _, e := range entries {
		d.entries[e.Name()] = e.Type()
	}
	return d
}

// searchPath takes the folders of a command line in the order in which the
// compiler looks through them, those for names in quotes only apart, and the
// files it puts before the source.
func searchPath(words []string, cwd string) (quote, dirs, first []string) {
	var plain, system, after []string
	for i := 0; i < len(words); i++ {
		for _, o := range []struct {
			name string
			to   *[]string
		}{{"-include", &first}, {"-imacros", &first}, {"-iquote", &quote}, {"-isystem", &system}, {"-idirafter", &after}, {"-I", &plain}} {
			v, ok := strings.CutPrefix(words[i], o.name)
			if !ok {
				continue
			}
			if v == "" {
				if i++; i == len(words) {
					break
				}
				v = words[i]
			}
			if !filepath.IsAbs(v) {
				v = cwd + "/" + v
			}
			*o.to = append(*o.to, v)
			break
		}
	}
	return quote, append(append(plain, system...), after...), first
}
