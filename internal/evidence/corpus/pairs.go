// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/lupatch/lupatch/internal/build"
	"github.com/lupatch/lupatch/internal/evidence/objpair"
	"github.com/lupatch/lupatch/internal/refuse"
)

// pairsOf gives the pairs of a fix, compiled if there are none of this patch.
func pairsOf(ctx context.Context, o options, root string, f *fix) (*objpair.Fix, error) {
	text, err := os.ReadFile(f.path)
	if err != nil {
		return nil, err
	}
	sum := fmt.Sprintf("%x", sha256.Sum256(text))
	dir := filepath.Join(root, f.name)
	if p, err := objpair.Read(dir); err == nil && p.Patch == sum {
		return p, nil
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if err := os.RemoveAll(dir); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	p := &objpair.Fix{Patch: sum, Dir: dir}
	made, err := build.Pairs(ctx, build.Options{Patch: f.path, Release: o.release, Fuzz: build.DefaultFuzz, Jobs: o.workers})
	if e, ok := refuse.As(err); ok {
		p.Refused, p.Detail = string(e.ID), clean(e.Where+": "+e.Detail)
	} else if err != nil {
		return nil, err
	}
	for _, m := range made {
		x := objpair.Pair{
			Source: m.Source, Unit: m.Unit, Old: flat(m.Source) + ".before.o", New: flat(m.Source) + ".after.o",
			Lines: m.Lines, LateObjtool: m.LateObjtool,
		}
		if err := errors.Join(keep(m.Old, filepath.Join(dir, x.Old)), keep(m.New, filepath.Join(dir, x.New))); err != nil {
			return nil, err
		}
		p.Pairs = append(p.Pairs, x)
	}
	return p, p.Write()
}

// keep links the file, which whoever cleans the object cache may remove there,
// or copies it to another file system.
func keep(from, to string) error {
	if os.Link(from, to) == nil {
		return nil
	}
	b, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, b, 0o644)
}
