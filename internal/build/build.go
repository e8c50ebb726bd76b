// SPDX-License-Identifier: Apache-2.0

// Package build is the way from a source patch to an update: find the source,
// compile what the patch touches, verify it against the shipped binary, make
// the livepatch object, link it.
package build

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/lupatch/lupatch/internal/kbuild"
	"github.com/lupatch/lupatch/patchgen/include"
)

// Run builds an update. What cannot be done correctly is a *refuse.Error.
// It needs no privilege and writes nothing but the output, a signature beside it
// and the cache.
func Run(ctx context.Context, opt Options) (*Result, error) {
	c := &clock{progress: opt.Progress}
	if opt.Name == "" {
		opt.Name = nameOf(opt.Patch)
	}
	if opt.Output == "" {
		opt.Output = opt.Name + ".ko"
	}
	j, err := prepare(ctx, opt, c)
	if err != nil {
		return nil, err
	}
	defer j.close()
	ko, man, err := j.run(ctx)
	if err != nil {
		return nil, err
	}
	ko, minisig, err := j.sign(ko, man)
	if err != nil {
		return nil, err
	}
	if err := write(opt.Output, ko, minisig); err != nil {
		return nil, err
	}
	c.start("")
	out, err := filepath.Abs(opt.Output)
	if err != nil {
		return nil, err
	}
	return &Result{Path: out, Manifest: man, Stages: c.stages, Notes: append(slices.Clone(j.tree.Notes), j.notes...)}, nil
}

// close removes what prepare laid out.
func (j *job) close() {
	j.overlay.Close()
	j.stack.close()
}

// prepare finds the source and lays the patch over it; the job is to be closed.
func prepare(ctx context.Context, opt Options, c *clock) (*job, error) {
	text, err := os.ReadFile(opt.Patch)
	if err != nil {
		return nil, err
	}
	bases, err := readBases(opt.On)
	if err != nil {
		return nil, err
	}
	c.start("source")
	tree, err := kbuild.Open(ctx, kbuild.Options{
		Dir: opt.Dir, Release: opt.Release, SourceVersion: opt.SourceVersion,
		AnyCompiler: opt.AnyCompiler, Jobs: opt.Jobs, Progress: opt.Progress,
	})
	if err != nil {
		return nil, err
	}
	j := &job{opt: opt, tree: tree, clock: c}
	c.start("patch")
	if len(bases) > 0 {
		if err := checkBases(bases, opt.Name, tree.Release, tree.Version); err != nil {
			return nil, err
		}
		if err := j.readStack(bases, text); err != nil {
			return nil, err
		}
	} else if j.change, err = readPatch(opt.Patch, text, tree.Src, opt.Fuzz); err != nil {
		return nil, err
	}
	headers, err := include.WriteTo(tree.Cache())
	if err != nil {
		return nil, fmt.Errorf("writing the headers for patches: %w", err)
	}
	if j.overlay, err = tree.Overlay(j.change.laidOut()); err != nil {
		return nil, err
	}
	j.overlay.Include = headers
	if j.stack == nil {
		return j, nil
	}
	if opt.Cumulative {
		err = j.stack.checkCumulative()
	}
	if err == nil {
		j.stack.overlay, err = tree.Overlay(j.stack.inForce.laidOut())
	}
	if err != nil {
		j.overlay.Close()
		return nil, err
	}
	j.stack.overlay.Include = headers
	return j, nil
}
