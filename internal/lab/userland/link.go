// SPDX-License-Identifier: Apache-2.0

package userland

import (
	"debug/elf"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"path/filepath"
	"strings"
)

// library is where a package has a shared library.
type library struct{ dir, name string }

// index remembers the shared libraries of a package under their file names;
// what programs ask for (DT_NEEDED) is the name of a file or of a link to it.
func (u *collector) index(dir string) error {
	return walk(dir, func(name string, d fs.DirEntry) error {
		base := path.Base(name)
		if d.IsDir() || !strings.Contains(base, ".so") || u.libraries[base].dir != "" {
			return nil
		}
		u.libraries[base] = library{dir, name}
		return nil
	})
}

// link adds the libraries that the programs collected so far need, the
// libraries that those need, and the program that loads them.
func (u *collector) link() error {
	var queue []Entry
	for _, e := range u.files {
		queue = append(queue, e)
	}
	have := map[string]bool{}
	for _, e := range queue {
		have[path.Base(e.Path)] = true
	}
	for len(queue) > 0 {
		e := queue[0]
		queue = queue[1:]
		if e.Host == "" {
			continue
		}
		for _, name := range needed(e.Host) {
			if have[name] {
				continue
			}
			have[name] = true
			added, err := u.library(name)
			// Plug-ins may be for what a package only suggests.
			if errors.Is(err, errNoLibrary) && strings.HasSuffix(e.Path, ".so") {
				continue
			}
			if err != nil {
				return fmt.Errorf("looking for %s, which %s needs: %w", name, e.Path, err)
			}
			queue = append(queue, added...)
		}
	}
	return nil
}

// library adds a library; if its name is a link, what that leads to as well.
func (u *collector) library(name string) (added []Entry, err error) {
	l, ok := u.libraries[name]
	if !ok {
		return nil, errNoLibrary
	}
	for name := l.name; ; {
		if err := u.add(l.dir, name); err != nil {
			return nil, err
		}
		e := u.files[inGuest(name)]
		added = append(added, e)
		if e.Link == "" {
			return added, nil
		}
		name = strings.TrimPrefix(e.Link, "/")
	}
}

// needed lists what the dynamic linker loads for a program, itself included;
// nothing for a file that is no program.
func needed(file string) []string {
	f, err := elf.Open(file)
	if err != nil {
		return nil
	}
	defer f.Close()
	names, err := f.ImportedLibraries()
	if err != nil {
		return nil
	}
	for _, p := range f.Progs {
		if p.Type != elf.PT_INTERP {
			continue
		}
		text := make([]byte, p.Filesz)
		if _, err := p.ReadAt(text, 0); err == nil {
			names = append(names, filepath.Base(strings.TrimRight(string(text), "\x00")))
		}
	}
	return names
}
