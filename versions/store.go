// SPDX-License-Identifier: Apache-2.0

// Package versions knows the units of a host, their versions and what stands on
// what. A unit is at version 0 as shipped; an update takes it from the version
// it needs to the one it gives. What is in force is read from the kernel; the
// store says only which livepatches there are lupatch's own.
package versions

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/renameio/v2"

	"github.com/lupatch/lupatch/internal/journal"
	"github.com/lupatch/lupatch/internal/manifest"
	"github.com/lupatch/lupatch/kpatch"
)

// StoreDir is where the updates of a host are kept.
const StoreDir = "/var/lib/lupatch/updates"

// Store keeps a copy of each update that was loaded, under the name its module
// has in the kernel: MODULE.ko. A later generation is stored as the file it came
// from, with its own name inside.
type Store struct{ Dir string }

// Stored is an update of the store.
type Stored struct {
	// Module is the name it is stored under.
	Module   string
	Image    []byte
	Manifest *manifest.Manifest
	// BuildID of the module in hex.
	BuildID string
}

// Path is where an update is kept.
func (s Store) Path(module string) string { return filepath.Join(s.Dir, module+".ko") }

// Put stores an update so that it is whole or absent after a crash.
func (s Store) Put(module string, image []byte) error {
	if err := os.MkdirAll(s.Dir, 0o755); err != nil {
		return fmt.Errorf("storing update %s: %w", module, err)
	}
	if err := renameio.WriteFile(s.Path(module), image, 0o600); err != nil {
		return fmt.Errorf("storing update %s: %w", module, err)
	}
	// renameio syncs the file, not the name.
	if err := journal.SyncDir(s.Dir); err != nil {
		return fmt.Errorf("storing update %s: %w", module, err)
	}
	return nil
}

// Get reads an update; fs.ErrNotExist is in the chain if it is not there, a
// refusal NotAnUpdate if it is damaged.
func (s Store) Get(module string) (*Stored, error) {
	image, m, err := manifest.ReadModule(s.Path(module))
	if err != nil {
		return nil, fmt.Errorf("reading stored update %s: %w", module, err)
	}
	id, err := kpatch.ImageBuildID(image)
	if err != nil {
		return nil, fmt.Errorf("reading stored update %s: %w", module, err)
	}
	return &Stored{Module: module, Image: image, Manifest: m, BuildID: id}, nil
}

// Remove takes an update out of the store; it may be absent.
func (s Store) Remove(module string) error {
	if err := os.Remove(s.Path(module)); errors.Is(err, fs.ErrNotExist) {
		return s.removeSignature(module)
	} else if err != nil {
		return fmt.Errorf("removing stored update %s: %w", module, err)
	}
	if err := s.removeSignature(module); err != nil {
		return err
	}
	return journal.SyncDir(s.Dir)
}

// List names the modules of which there are copies, sorted.
func (s Store) List() ([]string, error) {
	entries, err := os.ReadDir(s.Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("listing the stored updates: %w", err)
	}
	var out []string
	for _, e := range entries {
		if name, ok := strings.CutSuffix(e.Name(), ".ko"); ok && e.Type().IsRegular() {
			out = append(out, name)
		}
	}
	return out, nil
}
