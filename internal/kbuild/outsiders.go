// SPDX-License-Identifier: Apache-2.0

package kbuild

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// outsiders lists files outside of dir that read a header of dir: by a path
// relative to themselves, or because their makefile names the header's folder
// (ccflags-y += -I…). Whether the configuration builds them is not looked at.
func (t *Tree) outsiders(ctx context.Context, header, dir string) ([]string, error) {
	if t.Kind == KindModule {
		return nil, nil
	}
	base := regexp.QuoteMeta(path.Base(header))
	include := regexp.MustCompile(`(?m)^[ \t]*#[ \t]*include[ \t]*["<]((?:[^">\n]*/)?` + base + `)[">]`)
	// grep reads the tree several times faster than this program would.
	cmd := exec.CommandContext(ctx, "grep", "-rlE", "--include=*.[ch]", "--exclude-dir=tools", "--exclude-dir=Documentation",
		`^[[:space:]]*#[[:space:]]*include[[:space:]]*["<]([^">]*/)?`+base+`[">]`, ".")
	cmd.Dir = t.Src
	text, err := cmd.Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == 1 {
		return nil, nil // no file at all
	} else if err != nil {
		return nil, fmt.Errorf("searching the source for readers of %s: %w", header, err)
	}
	var out []string
	for _, file := range strings.Fields(string(text)) {
		file = path.Clean(file)
		if strings.HasPrefix(file, dir+"/") {
			continue
		}
		src, err := os.ReadFile(filepath.Join(t.Src, file))
		if err != nil {
			return nil, err
		}
		for _, m := range include.FindAllSubmatch(src, -1) {
			if t.means(file, string(m[1]), header) {
				out = append(out, file)
				break
			}
		}
	}
	slices.Sort(out)
	return out, nil
}

// means reports whether file gets header when it includes name.
func (t *Tree) means(file, name, header string) bool {
	if own := path.Join(path.Dir(file), name); exists(filepath.Join(t.Src, own)) {
		return own == header
	}
	if header != name && !strings.HasSuffix(header, "/"+name) {
		return false
	}
	folder := path.Base(strings.TrimSuffix(header, name))
	for dir := path.Dir(file); ; dir = path.Dir(dir) {
		for _, mk := range []string{"Makefile", "Kbuild"} {
			text, err := os.ReadFile(filepath.Join(t.Src, dir, mk))
			if err != nil {
				continue
			}
			for _, l := range strings.Split(string(text), "\n") {
				if strings.Contains(l, "-I") && strings.Contains(l, folder) {
					return true
				}
			}
		}
		if dir == "." || !strings.Contains(dir, "/") {
			return false
		}
	}
}
