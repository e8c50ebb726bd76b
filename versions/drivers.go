// SPDX-License-Identifier: Apache-2.0

package versions

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"github.com/google/renameio/v2"

	"github.com/lupatch/lupatch/internal/journal"
	"github.com/lupatch/lupatch/internal/manifest"
)

// DriverDir is where the versions of replaced drivers are kept, those that were
// shipped among them.
const DriverDir = "/var/lib/lupatch/drivers"

// DriverStore keeps, for each module that was ever replaced, its versions in order:
// MODULE/0 is the one that was found, MODULE/1 the first that replaced it.
type DriverStore struct{ Dir string }

// DriverVersion is one version of a driver.
type DriverVersion struct {
	Module string `json:"module"`
	// Number is its place: 0 is what was found.
	Number  int    `json:"number"`
	BuildID string `json:"build_id"`
	// Params are what it was loaded with.
	Params string `json:"params,omitempty"`
	// Manifest of the update; nil for what was found.
	Manifest *manifest.Manifest `json:"manifest,omitempty"`
}

// Name is what it is called: the update's name.
func (v *DriverVersion) Name() string {
	if v.Manifest == nil {
		return v.Module + " as it was found"
	}
	return v.Manifest.Name
}

func (s DriverStore) dir(module string, n int) string {
	return filepath.Join(s.Dir, module, strconv.Itoa(n))
}

// Put keeps a version so that it is whole or absent after a crash: the file that
// describes it comes last.
func (s DriverStore) Put(v *DriverVersion, image []byte) error {
	dir := s.dir(v.Module, v.Number)
	doing := func(err error) error {
		return fmt.Errorf("storing version %d of driver %s: %w", v.Number, v.Module, err)
	}
	text, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return doing(err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return doing(err)
	}
	// A description that is there would speak of another file meanwhile.
	if err := os.Remove(filepath.Join(dir, "version.json")); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return doing(err)
	}
	if err := renameio.WriteFile(filepath.Join(dir, "module.ko"), image, 0o600); err != nil {
		return doing(err)
	}
	if err := renameio.WriteFile(filepath.Join(dir, "version.json"), text, 0o600); err != nil {
		return doing(err)
	}
	for d := dir; len(d) >= len(s.Dir); d = filepath.Dir(d) {
		if err := journal.SyncDir(d); err != nil {
			return doing(err)
		}
	}
	return nil
}

// Versions lists the versions of a module, the oldest first; none if it was never
// replaced. What a crash has left unfinished is left out.
func (s DriverStore) Versions(module string) ([]*DriverVersion, error) {
	var out []*DriverVersion
	for n := 0; ; n++ {
		if _, err := os.Stat(s.dir(module, n)); errors.Is(err, fs.ErrNotExist) {
			return out, nil
		}
		text, err := os.ReadFile(filepath.Join(s.dir(module, n), "version.json"))
		if errors.Is(err, fs.ErrNotExist) {
			return out, nil
		}
		if err != nil {
			return nil, fmt.Errorf("reading the versions of driver %s: %w", module, err)
		}
		v := &DriverVersion{}
		if err := json.Unmarshal(text, v); err != nil {
			return nil, fmt.Errorf("reading version %d of driver %s: %w", n, module, err)
		}
		out = append(out, v)
	}
}

// Image reads the module file of a version.
func (s DriverStore) Image(v *DriverVersion) ([]byte, error) {
	image, err := os.ReadFile(filepath.Join(s.dir(v.Module, v.Number), "module.ko"))
	if err != nil {
		return nil, fmt.Errorf("reading version %d of driver %s: %w", v.Number, v.Module, err)
	}
	return image, nil
}

// Cut removes version n of a module and all behind it.
func (s DriverStore) Cut(module string, n int) error {
	for last := n; ; last++ {
		if _, err := os.Stat(s.dir(module, last)); errors.Is(err, fs.ErrNotExist) {
			for last--; last >= n; last-- {
				if err := os.RemoveAll(s.dir(module, last)); err != nil {
					return fmt.Errorf("removing version %d of driver %s: %w", last, module, err)
				}
			}
			return nil
		}
	}
}

// Modules lists the modules that were replaced.
func (s DriverStore) Modules() ([]string, error) {
	entries, err := os.ReadDir(s.Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("listing the replaced drivers: %w", err)
	}
	var out []string
	for _, e := range entries {
		if e.IsDir() {
			out = append(out, e.Name())
		}
	}
	return out, nil
}
