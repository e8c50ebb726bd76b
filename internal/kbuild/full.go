// SPDX-License-Identifier: Apache-2.0

package kbuild

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"
)

// A few files (ASN.1 users, SELinux) need headers that host tools make, which
// no package carries. For those there is a second build folder, in which
// `make prepare` has been run; it takes half a minute the first time.

func (t *Tree) fullObj() string { return t.Obj + "-full" }

// full makes the second build folder.
func (t *Tree) full(ctx context.Context) error {
	if t.Kind == KindModule {
		return errors.New("an installed headers package cannot be completed")
	}
	return once(ctx, t.fullObj(), func(tmp string) error {
		if err := t.prepare(ctx, tmp, filepath.Join(t.Obj, ".config")); err != nil {
			return err
		}
		// What the distribution's build put there (builder, date, release)
		// counts, not what this host would.
		for _, name := range []string{"Module.symvers", "include/generated/compile.h", "include/generated/package.h", "include/generated/utsrelease.h", "include/generated/utsversion.h", "include/config/kernel.release"} {
			from := filepath.Join(t.Obj, name)
			if !exists(from) {
				continue
			}
			if err := copyFile(from, filepath.Join(tmp, name)); err != nil {
				return err
			}
		}
		return settle(tmp)
	})
}

// listFull lists a folder in the second build folder, after the files that the
// source needs have been made there.
func (t *Tree) listFull(ctx context.Context, dir, source string) (*listing, error) {
	if err := t.full(ctx); err != nil {
		return nil, fmt.Errorf("making the host tools that %s needs: %w", source, err)
	}
	unlock, err := lock(ctx, t.fullObj()+".use")
	if err != nil {
		return nil, err
	}
	defer unlock()
	src, tidy, err := t.cleanSource(dir)
	if err != nil {
		return nil, err
	}
	defer tidy()
	goal := strings.TrimSuffix(source, ".c") + ".o"
	_, log, err := runMake(t.makeCommand(ctx, src, t.fullObj(), goal))
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if err != nil && strings.Contains(log, "No rule to make target '"+goal+"'") {
		return nil, t.notBuilt(source)
	}
	if err != nil {
		return nil, fmt.Errorf("making what %s needs: %w: %s", source, err, firstErrors(log, 3))
	}
	// Objects that exist are not listed.
	for _, pattern := range []string{"*.o", ".*.o.cmd"} {
		old, _ := filepath.Glob(filepath.Join(t.fullObj(), path.Dir(goal), pattern))
		for _, f := range old {
			if err := os.Remove(f); err != nil {
				return nil, err
			}
		}
	}
	return t.askMake(ctx, dir, t.fullObj())
}

// fullTU gives the unit in the second build folder if its first failure was for
// want of a generated header; nil if the change itself is at fault.
func (t *Tree) fullTU(ctx context.Context, job Job, ce *CompileError) (*TU, error) {
	if t.Kind == KindModule {
		return nil, nil
	}
	if job.Overlay != nil {
		var plain *CompileError
		_, _, err := t.invoke(job.TU, nil, nil).preprocess(ctx)
		if err == nil || !errors.As(err, &plain) || plain.Missing != ce.Missing {
			return nil, ctx.Err()
		}
	}
	l, err := t.listFull(ctx, path.Dir(job.TU.Object), job.TU.Source)
	if err != nil {
		return nil, err
	}
	if _, ok := l.Commands[job.TU.Object]; !ok {
		return nil, nil
	}
	return t.tuOf(ctx, l, path.Dir(job.TU.Object), job.TU.Object)
}
