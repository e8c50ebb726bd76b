// SPDX-License-Identifier: Apache-2.0

package kbuild

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/google/renameio/v2"

	"github.com/lupatch/lupatch/internal/kmodule"
	"github.com/lupatch/lupatch/internal/refuse"
)

// Shipped gives the path of the binary that a unit is in on the hosts that run
// this kernel: a vmlinuz (or vmlinux) for "vmlinux", else the module's .ko,
// unpacked. Refusal: SourceUnavailable.
func (t *Tree) Shipped(ctx context.Context, unit string) (string, error) {
	switch t.Kind {
	case KindTree:
		return t.shippedInTree(unit)
	case KindModule:
		if unit == Vmlinux {
			return t.releaseImage(ctx)
		}
		return t.builtModule(t.Src, unit)
	}
	debs, err := t.debs()
	if err != nil {
		return "", err
	}
	k, err := debs.KernelImageVersion(ctx, t.Release, t.Version)
	if err != nil {
		return "", err
	}
	if unit == Vmlinux {
		return k.Vmlinuz(), nil
	}
	return t.builtModule(filepath.Join(k.Modules(), "kernel"), unit)
}

// releaseImage is the image that a module outside of the tree is used with:
// the host's own if that release is installed, else the package's.
func (t *Tree) releaseImage(ctx context.Context) (string, error) {
	debs, err := t.debs()
	if err != nil {
		return "", err
	}
	k, err := debs.KernelImage(ctx, t.Release)
	if err != nil {
		return "", err
	}
	return k.Vmlinuz(), nil
}

// shippedInTree takes what the user has built, else what is installed.
func (t *Tree) shippedInTree(unit string) (string, error) {
	if unit != Vmlinux {
		ko, err := t.builtModule(t.UserObj, unit)
		if err == nil {
			return ko, nil
		}
		if ko, ierr := t.builtModule(filepath.Join("/lib/modules", t.Release), unit); ierr == nil {
			return ko, nil
		}
		return "", err
	}
	for _, p := range []string{filepath.Join(t.UserObj, "vmlinux"), filepath.Join("/boot", "vmlinuz-"+t.Release), filepath.Join("/lib/modules", t.Release, "vmlinuz")} {
		if exists(p) {
			return p, nil
		}
	}
	return "", refuse.New(refuse.SourceUnavailable, t.Release, "there is neither a built vmlinux in %s nor an installed image", t.UserObj)
}

// moduleSuffixes are the endings of the names under which modules are installed.
var moduleSuffixes = []string{".ko", ".ko.xz", ".ko.zst", ".ko.gz"}

// builtModule looks below dir for the module of that name (file names may have
// dashes where it has underscores) and gives the path of its .ko. A compressed
// one is unpacked into the cache.
func (t *Tree) builtModule(dir, unit string) (string, error) { return findModule(dir, unit, t.cache) }

func findModule(dir, unit, cache string) (string, error) {
	found, suffix, err := locateModule(dir, unit)
	if err != nil {
		return "", err
	}
	if suffix == ".ko" {
		return found, nil
	}
	return unpackModule(found, suffix, cache)
}

// ShippedFolder gives the folder of the source, relative to its root, that a module
// of this kernel is made in: where its .ko lies says so. Refusal: SourceUnavailable.
func (t *Tree) ShippedFolder(ctx context.Context, unit string) (string, error) {
	dir := t.UserObj
	if t.Kind == KindPackages {
		debs, err := t.debs()
		if err != nil {
			return "", err
		}
		k, err := debs.KernelImageVersion(ctx, t.Release, t.Version)
		if err != nil {
			return "", err
		}
		dir = filepath.Join(k.Modules(), "kernel")
	}
	found, _, err := locateModule(dir, unit)
	if err != nil {
		return "", err
	}
	return filepath.Rel(dir, filepath.Dir(found))
}

// locateModule gives the path of a module's file and the ending of its name.
func locateModule(dir, unit string) (found, suffix string, err error) {
	err = filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return nil // a folder that cannot be read holds nothing for us
		}
		base, rest, ok := strings.Cut(d.Name(), ".ko")
		if !ok || moduleName(base) != unit || !slices.Contains(moduleSuffixes, ".ko"+rest) {
			return nil
		}
		found, suffix = p, ".ko"+rest
		return fs.SkipAll
	})
	if err == nil && found == "" {
		err = refuse.New(refuse.SourceUnavailable, unit, "there is no such module below %s", dir)
	}
	return found, suffix, err
}

func unpackModule(file, suffix, cache string) (string, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return "", fmt.Errorf("reading module: %w", err)
	}
	sum := sha256.Sum256(b)
	out := filepath.Join(cache, "modules", hex.EncodeToString(sum[:])[:16], strings.TrimSuffix(filepath.Base(file), suffix)+".ko")
	if exists(out) {
		return out, nil
	}
	raw, err := kmodule.Decompress(b)
	if err != nil {
		return "", fmt.Errorf("unpacking %s: %w", file, err)
	}
	if err := os.MkdirAll(filepath.Dir(out), 0o755); err != nil {
		return "", err
	}
	return out, renameio.WriteFile(out, raw, 0o644)
}
