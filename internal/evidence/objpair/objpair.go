// SPDX-License-Identifier: Apache-2.0

// Package objpair keeps the object pairs of real fixes, so that everything that
// compares objects, and whoever times it, works on the same bytes: what a build
// of the update would compare, one folder a fix.
package objpair

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"github.com/google/renameio/v2"

	"github.com/lupatch/lupatch/patchgen"
)

// file lists a fix's pairs, in the folder that holds them.
const file = "pairs.json"

// Fix holds the object pairs of one fix.
type Fix struct {
	// Patch is the SHA-256 of the fix they were made of.
	Patch string
	// Refused says why there are none: an identifier of package refuse.
	Refused string `json:",omitempty"`
	// Detail is the refusal's sentence.
	Detail string `json:",omitempty"`
	Pairs  []Pair

	// Dir is the folder.
	Dir string `json:"-"`
}

// Pair is one file before and after a fix.
type Pair struct {
	// Source is the C file and Unit what it is part of: "vmlinux" or a module.
	Source, Unit string
	// Old and New are the objects' names in the folder.
	Old, New string
	// Lines is nil if the fix does not touch the source itself.
	Lines *patchgen.LineMap
	// LateObjtool is as in patchgen.Input.
	LateObjtool bool
}

// Root is the folder of a kernel's pairs, one below it for each fix.
func Root(release, version string) (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	return filepath.Join(cache, "lupatch", "evidence", release+"_"+version, "pairs"), nil
}

// Read reads what was kept in a fix's folder. The error matches fs.ErrNotExist
// if nothing was.
func Read(dir string) (*Fix, error) {
	b, err := os.ReadFile(filepath.Join(dir, file))
	if err != nil {
		return nil, err
	}
	f := &Fix{Dir: dir}
	if err := json.Unmarshal(b, f); err != nil {
		return nil, fmt.Errorf("reading the pairs in %s: %w", dir, err)
	}
	return f, nil
}

// Write keeps the list; the objects have to be there.
func (f *Fix) Write() error {
	b, err := json.MarshalIndent(f, "", "\t")
	if err != nil {
		return err
	}
	return renameio.WriteFile(filepath.Join(f.Dir, file), append(b, '\n'), 0o644)
}

// Bytes reads both objects of pair n.
func (f *Fix) Bytes(n int) (old, new []byte, err error) {
	if old, err = os.ReadFile(filepath.Join(f.Dir, f.Pairs[n].Old)); err != nil {
		return nil, nil, err
	}
	new, err = os.ReadFile(filepath.Join(f.Dir, f.Pairs[n].New))
	return old, new, err
}
