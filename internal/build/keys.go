// SPDX-License-Identifier: Apache-2.0

package build

import (
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/google/renameio/v2"
	"github.com/sirupsen/logrus"

	"github.com/lupatch/lupatch/internal/elfobj"
	"github.com/lupatch/lupatch/internal/kbuild"
	"github.com/lupatch/lupatch/internal/refuse"
	"github.com/lupatch/lupatch/patchgen"
)

//go:embed template/keys.h
var keysH []byte

// readKeys makes a unit anew for which first found branches on static keys of
// modules: both versions are compiled so that such a branch reads its key, and
// compared again. What was found to differ at first is what does differ; the
// second comparison has to find it too.
func (j *job) readKeys(ctx context.Context, u *unit, in patchgen.Input, first *patchgen.Result) (*patchgen.Result, error) {
	header, err := cachedHeader("keys.h", keysH)
	if err != nil {
		return nil, err
	}
	flags := slices.Concat(j.opt.ExtraFlags, []string{"-include", header})
	jobs := []kbuild.Job{
		{TU: u.tu, Flavor: kbuild.Sections, ExtraFlags: flags},
		{TU: u.tu, Flavor: kbuild.Sections, Overlay: j.overlay, ExtraFlags: flags},
	}
	if j.stack != nil {
		jobs = append(jobs, kbuild.Job{TU: u.tu, Flavor: kbuild.Sections, Overlay: j.stack.overlay, ExtraFlags: flags})
	}
	objs, err := j.tree.CompileAll(ctx, jobs)
	var ce *kbuild.CompileError
	if errors.As(err, &ce) {
		// The file is sound, so that what stands in the way is the header.
		logrus.Debugf("compiling %s so that it reads static keys: %s", u.tu.Source, ce.Log)
		return nil, first.Late[0]
	}
	if err != nil {
		return nil, err
	}
	for i, dst := range []**elfobj.File{&in.Old, &in.New} {
		if *dst, err = elfobj.ReadFile(objs[i].Path); err != nil {
			return nil, err
		}
	}
	old, err := os.ReadFile(objs[0].Path)
	if err != nil {
		return nil, err
	}
	if in.NewObject, err = os.ReadFile(objs[1].Path); err != nil {
		return nil, err
	}
	if in.OldLines, err = patchgen.ReadExtents(old, u.tu.Source); err != nil {
		return nil, fmt.Errorf("reading the source lines of %s: %w", u.tu.Source, err)
	}
	if j.stack != nil {
		again := *u
		again.inForcePath = objs[2].Path
		if again.inForce, err = elfobj.ReadFile(again.inForcePath); err != nil {
			return nil, err
		}
		if in.Stacked, err = j.stacked(&again); err != nil {
			return nil, err
		}
	}
	res, err := generateCopying(in, u.old)
	if err != nil {
		return nil, err
	}
	if len(res.Late) > 0 {
		return nil, res.Late[0]
	}
	now := map[string]bool{}
	for _, f := range res.Functions {
		now[f.Name] = true
	}
	for _, f := range first.Functions {
		if !f.New && !now[f.Name] {
			return nil, refuse.New(refuse.LateKey, f.Name, "it has to read a static key of a module, and compiled so it is no function of its own any more")
		}
	}
	var names []string
	for _, l := range first.Late {
		names = append(names, l.Where)
	}
	slices.Sort(names)
	j.notes = append(j.notes, fmt.Sprintf("%s: static keys are read at run time instead of patched into the code, because a module of the update owns some of them", strings.Join(slices.Compact(names), ", ")))
	return res, nil
}

// generateCopying makes the object of a unit that is compiled with other flags
// than the running kernel's, and has it carry copies of the clones that those
// flags change: which those are shows only in what is made.
func generateCopying(in patchgen.Input, shipped *elfobj.File) (*patchgen.Result, error) {
	for {
		res, err := patchgen.Generate(in)
		if err != nil || len(res.Late) > 0 {
			return res, err
		}
		if len(res.Untraced) > 0 {
			return nil, refuse.New(refuse.LateKey, res.Untraced[0], "it calls what changes if the unit is compiled to read static keys, and has no ftrace site")
		}
		more, err := patchgen.CheckNames(in.Unit, shipped, in.Old, in.Sizes, res.Refs)
		if err != nil || len(more) == 0 {
			return res, err
		}
		for _, name := range more {
			if slices.Contains(in.Copies, name) {
				return nil, refuse.New(refuse.AmbiguousSymbol, name, "the compiler made this copy of a function to suit its callers, and differently with other flags")
			}
		}
		in.Copies = append(in.Copies, more...)
	}
}

// cachedHeader puts a header of the program where compilers find it; its place
// depends on its content alone, so that objects made with it can be kept.
func cachedHeader(name string, text []byte) (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("finding the cache folder: %w", err)
	}
	sum := sha256.Sum256(text)
	dir := filepath.Join(cache, "lupatch", "include", hex.EncodeToString(sum[:8]))
	path := filepath.Join(dir, name)
	if b, err := os.ReadFile(path); err == nil && slices.Equal(b, text) {
		return path, nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	return path, renameio.WriteFile(path, text, 0o644)
}
