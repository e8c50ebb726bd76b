// SPDX-License-Identifier: Apache-2.0

package kbuild

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
)

// quotedInclude matches an inclusion by a path that begins where the file lies.
var quotedInclude = regexp.MustCompile(`(?m)^[ \t]*#[ \t]*include[ \t]*"([^"\n]+)"`)

// DriverFiles gives the content of a module's own files in a version of the source:
// its C files, and the headers that those include by a path relative to themselves
// or to the folder dir. changed is as in Driver. Kernel headers are not among them.
func DriverFiles(root, dir string, sources []string, changed map[string][]byte) (map[string][]byte, error) {
	out := map[string][]byte{}
	todo := slices.Clone(sources)
	for len(todo) > 0 {
		p := todo[0]
		todo = todo[1:]
		if out[p] != nil {
			continue
		}
		b, ok := changed[p]
		if !ok {
			var err error
			if b, err = os.ReadFile(filepath.Join(root, p)); err != nil {
				return nil, fmt.Errorf("reading the driver's source: %w", err)
			}
		}
		out[p] = b
		for _, m := range quotedInclude.FindAllSubmatch(b, -1) {
			for _, from := range []string{path.Dir(p), dir} {
				name := path.Join(from, string(m[1]))
				_, new := changed[name]
				st, err := os.Stat(filepath.Join(root, name))
				if new || err == nil && st.Mode().IsRegular() {
					todo = append(todo, name)
					break
				}
				if err != nil && !errors.Is(err, fs.ErrNotExist) {
					return nil, fmt.Errorf("reading the driver's source: %w", err)
				}
			}
		}
	}
	return out, nil
}

// SameDriver says whether a module's own files are the same in two versions of the
// source, but for comments and blanks. Sources are as DriverModules gives them.
func SameDriver(rootA, rootB, dir string, a, b DriverModule) (bool, error) {
	fa, err := DriverFiles(rootA, dir, a.Sources, nil)
	if err != nil {
		return false, err
	}
	fb, err := DriverFiles(rootB, dir, b.Sources, nil)
	if err != nil {
		return false, err
	}
	if len(fa) != len(fb) {
		return false, nil
	}
	for p, text := range fa {
		if other, ok := fb[p]; !ok || !sameTokens(text, other) {
			return false, nil
		}
	}
	return true, nil
}
