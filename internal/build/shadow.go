// SPDX-License-Identifier: Apache-2.0

package build

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/google/renameio/v2"

	"github.com/lupatch/lupatch/internal/kbuild"
	"github.com/lupatch/lupatch/shadow"
)

// Shadow builds the kernel module lupatch_shadow for the kernel of a tree, once: the
// result is kept in the tree's cache under the digest of all that it was made of. It
// needs the kernel's headers and no privilege.
func Shadow(ctx context.Context, t *kbuild.Tree) (path string, err error) {
	h := sha256.New()
	put := func(name string, content []byte) {
		fmt.Fprintf(h, "%s\x00%d\x00", name, len(content))
		h.Write(content)
	}
	root, err := os.MkdirTemp("", "lupatch-shadow-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(root)
	dir := filepath.Join(root, "kmod")
	if err := os.Mkdir(dir, 0o755); err != nil {
		return "", err
	}
	err = fs.WalkDir(shadow.Source, shadow.SourceDir, func(file string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		b, err := shadow.Source.ReadFile(file)
		if err != nil {
			return err
		}
		name := filepath.Base(file)
		put(name, b)
		if name == "Kbuild" {
			name = "Makefile"
		}
		return os.WriteFile(filepath.Join(dir, name), b, 0o644)
	})
	if err != nil {
		return "", fmt.Errorf("laying out the shadow's source: %w", err)
	}
	put("kernel", []byte(t.Release+" "+t.Config["CONFIG_CC_VERSION_TEXT"]))
	for _, name := range []string{".config", "Module.symvers"} {
		b, err := os.ReadFile(filepath.Join(t.Obj, name))
		if err != nil {
			return "", fmt.Errorf("reading the kernel's build folder: %w", err)
		}
		put(name, b)
	}
	path = filepath.Join(t.Cache(), "shadow", hex.EncodeToString(h.Sum(nil))[:24], shadow.Module+".ko")
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	ko, err := t.BuildDriver(ctx, kbuild.Driver{Root: root, Dir: "kmod", Module: shadow.Module})
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return "", err
	}
	return path, renameio.WriteFile(path, ko, 0o644)
}
