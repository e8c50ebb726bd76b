// SPDX-License-Identifier: Apache-2.0

// Package include has the C headers that a patch may include. They say to
// patchgen what C cannot: callbacks, and what is to be left out.
package include

import (
	"crypto/sha256"
	"embed"
	"fmt"
	"os"
	"path/filepath"

	"github.com/google/renameio/v2"
)

//go:embed *.h
var headers embed.FS

// WriteTo puts the headers into a folder below parent and gives its path. The
// folder is named after what is in it: versions of lupatch that differ do not
// meet there.
func WriteTo(parent string) (string, error) {
	files, err := headers.ReadDir(".")
	if err != nil {
		return "", err
	}
	content, sum := map[string][]byte{}, sha256.New()
	for _, f := range files {
		b, err := headers.ReadFile(f.Name())
		if err != nil {
			return "", err
		}
		content[f.Name()] = b
		fmt.Fprintf(sum, "%s %d\n%s", f.Name(), len(b), b)
	}
	dir := filepath.Join(parent, fmt.Sprintf("include-%.12x", sum.Sum(nil)))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	for name, b := range content {
		// In one step, because compilers may be reading it.
		if err := renameio.WriteFile(filepath.Join(dir, name), b, 0o644); err != nil {
			return "", err
		}
	}
	return dir, nil
}
