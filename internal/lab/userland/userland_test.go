// SPDX-License-Identifier: Apache-2.0

package userland

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// tree makes a package's folder; a content of "→x" is a link to x.
func tree(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		var err error
		if link, ok := cutArrow(content); ok {
			err = os.Symlink(link, path)
		} else {
			err = os.WriteFile(path, []byte(content), 0o755)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func cutArrow(s string) (string, bool) {
	const arrow = "→"
	if len(s) > len(arrow) && s[:len(arrow)] == arrow {
		return s[len(arrow):], true
	}
	return "", false
}

func collectorOf() *collector {
	return &collector{files: map[string]Entry{}, libraries: map[string]library{}, visited: map[string]bool{}}
}

// In a lab host bin and sbin are one folder: links between them must neither
// lead to themselves nor replace what they point at.
func TestLinksBetweenProgramFolders(t *testing.T) {
	dir := tree(t, map[string]string{
		"bin/tool": "program", "sbin/tool": "→/bin/tool", "usr/sbin/other": "→../bin/tool", "usr/bin/rel": "→tool2", "usr/bin/tool2": "x",
	})
	for _, order := range [][]string{
		{"bin/tool", "sbin/tool", "usr/sbin/other", "usr/bin/rel", "usr/bin/tool2"},
		{"usr/bin/rel", "usr/sbin/other", "sbin/tool", "bin/tool", "usr/bin/tool2"},
	} {
		u := collectorOf()
		for _, name := range order {
			if err := u.add(dir, name); err != nil {
				t.Fatal(err)
			}
		}
		if len(u.files) != 4 || u.files["bin/tool"].Host == "" || u.files["bin/other"].Link != "/bin/tool" || u.files["bin/rel"].Link != "/bin/tool2" {
			t.Errorf("got %+v", u.files)
		}
	}
}

// A library comes with what its name is a link to; one that nobody has is an error.
func TestLibrary(t *testing.T) {
	dir := tree(t, map[string]string{"usr/lib/x/libfoo.so.1": "→libfoo.so.1.2", "usr/lib/x/libfoo.so.1.2": "library"})
	u := collectorOf()
	if err := u.index(dir); err != nil {
		t.Fatal(err)
	}
	added, err := u.library("libfoo.so.1")
	if err != nil || len(added) != 2 || u.files["usr/lib/x/libfoo.so.1"].Link != "/usr/lib/x/libfoo.so.1.2" || u.files["usr/lib/x/libfoo.so.1.2"].Host == "" {
		t.Errorf("%+v, %v", u.files, err)
	}
	if _, err := u.library("libbar.so.1"); !errors.Is(err, errNoLibrary) {
		t.Errorf("got %v", err)
	}
	if names := needed(filepath.Join(dir, "usr/lib/x/libfoo.so.1.2")); names != nil {
		t.Errorf("what is no program needs %q", names)
	}
}
