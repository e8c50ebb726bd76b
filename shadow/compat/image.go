// SPDX-License-Identifier: Apache-2.0

// Package compat says, before anything of a device stops, whether one driver can
// take the place of another: from the two module files, and from what the running
// kernel shows of the devices. It changes nothing. What can only be seen where the
// new driver registers is for the kernel side to say.
package compat

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/lupatch/lupatch/internal/kmodule"
	"github.com/lupatch/lupatch/internal/refuse"
	"github.com/lupatch/lupatch/kpatch"
)

// Image is a module's file in memory.
type Image struct {
	// Path is where it was read, for messages; may be empty.
	Path string
	// Bytes are what the kernel is given: decompressed, with a signature.
	Bytes []byte
	Info  *kmodule.Info
	Facts *kmodule.Facts
}

// NewImage reads what a module file says of itself. An error wraps
// kmodule.ErrNotModule.
func NewImage(path string, file []byte) (*Image, error) {
	info, err := kmodule.ParseInfo(file)
	if err != nil {
		return nil, fmt.Errorf("reading module %s: %w", path, err)
	}
	facts, err := kmodule.Examine(file)
	if err != nil {
		return nil, fmt.Errorf("reading module %s: %w", path, err)
	}
	return &Image{Path: path, Bytes: file, Info: info, Facts: facts}, nil
}

// UpdatesDir is where a committed driver lies, below /lib/modules/RELEASE.
const UpdatesDir = "updates/lupatch"

// Shipped gives the file of a module that runs: the one among those installed under
// its name, and in further folders, whose build id is that of the module in memory.
// It need not be the one that the kernel came with. Refusals: DriverBuiltIn,
// DriverNotLoaded, DriverFile if there is no such file.
func Shipped(k *kpatch.Kernel, name string, folders ...string) (*Image, error) {
	name = kmodule.CanonicalName(name)
	release, err := k.Release()
	if err != nil {
		return nil, err
	}
	id, err := k.ModuleBuildID(name)
	if errors.Is(err, fs.ErrNotExist) {
		if err := loaded(k, release, name); err != nil {
			return nil, err
		}
		return nil, refuse.New(refuse.DriverFile, name, "the module in memory has no build id, by which its file could be told")
	}
	if err != nil {
		return nil, err
	}
	modules := k.Path("/lib/modules", release)
	others := 0
	for _, p := range candidates(modules, name, folders) {
		file, err := kmodule.Read(p)
		if err != nil {
			continue // another file may be whole
		}
		image, err := NewImage(p, file)
		if err != nil || kmodule.CanonicalName(image.Info.Name) != name {
			continue
		}
		if image.Facts.BuildID == id {
			return image, nil
		}
		others++
	}
	detail := fmt.Sprintf("below %s there is no file of it", modules)
	if others > 0 {
		detail = fmt.Sprintf("the module in memory has build id %.12s…, and none of its %d files below %s has: the package was updated since it was loaded", id, others, modules)
	}
	return nil, refuse.New(refuse.DriverFile, name, "%s", detail)
}

// loaded refuses a module that is not.
func loaded(k *kpatch.Kernel, release, name string) error {
	there, err := k.Loaded(name)
	if err != nil || there {
		return err
	}
	if builtIn(k.Path("/lib/modules", release), name) {
		return refuse.New(refuse.DriverBuiltIn, name, "modules.builtin of %s names it", release)
	}
	return refuse.New(refuse.DriverNotLoaded, name, "the module is not loaded")
}

// builtIn reads modules.builtin, one path a line.
func builtIn(dir, name string) bool {
	text, err := os.ReadFile(filepath.Join(dir, "modules.builtin"))
	if err != nil {
		return false
	}
	for _, line := range strings.Fields(string(text)) {
		if kmodule.CanonicalName(strings.TrimSuffix(filepath.Base(line), ".ko")) == name {
			return true
		}
	}
	return false
}

// candidates are files that may hold a module: what modules.dep says first.
func candidates(modules, name string, folders []string) (out []string) {
	if text, err := os.ReadFile(filepath.Join(modules, "modules.dep")); err == nil {
		for line := range strings.Lines(string(text)) {
			if p, _, ok := strings.Cut(line, ":"); ok && named(p, name) {
				out = append(out, filepath.Join(modules, p))
			}
		}
	}
	for _, dir := range append([]string{filepath.Join(modules, "updates"), filepath.Join(modules, "kernel"), filepath.Join(modules, "extra")}, folders...) {
		_ = filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
			if err == nil && !d.IsDir() && named(p, name) {
				out = append(out, p)
			}
			return nil // what cannot be read holds nothing for us
		})
	}
	return out
}

// named says whether a file's name is that of a module: NAME.ko, also compressed.
func named(path, name string) bool {
	base, rest, ok := strings.Cut(filepath.Base(path), ".ko")
	return ok && kmodule.CanonicalName(base) == name && (rest == "" || strings.HasPrefix(rest, "."))
}
