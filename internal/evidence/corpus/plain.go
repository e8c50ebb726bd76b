// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/lupatch/lupatch/internal/kbuild"
)

// plain compiles fixes by nothing but patch(1), the kernel's makefiles and a
// whole copy of the kernel's source: what counts as a fix that compiles must
// not depend on lupatch. Not safe for concurrent use.
type plain struct {
	release  string
	pristine string // the source, never written to
	src, obj string // a copy and its build folder
	kept     string // objects of all fixes, for the oracle and the next run
	debug    bool   // keep debugging information too
}

// newPlain makes the copy, which takes half a minute the first time.
func newPlain(ctx context.Context, tree *kbuild.Tree, worker int) (*plain, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return nil, err
	}
	root := filepath.Join(cache, "lupatch", "evidence", tree.Release+"_"+tree.Version)
	p := &plain{release: tree.Release, pristine: tree.Src, kept: filepath.Join(root, "objects")}
	dir := filepath.Join(root, fmt.Sprintf("plain-%d", worker))
	p.src, p.obj = filepath.Join(dir, "src"), filepath.Join(dir, "obj")
	if _, err := os.Stat(filepath.Join(dir, "ready")); err == nil {
		return p, nil
	}
	if err := os.RemoveAll(dir); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(p.obj, 0o755); err != nil {
		return nil, err
	}
	config, err := os.ReadFile(filepath.Join(tree.Obj, ".config"))
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(p.obj, ".config"), config, 0o644); err != nil {
		return nil, err
	}
	steps := [][]string{{"cp", "-a", "--reflink=auto", p.pristine, p.src}}
	for _, goal := range []string{"olddefconfig", "prepare", "modules_prepare", "scripts"} {
		steps = append(steps, []string{"make", "-s", "-C", p.src, "O=" + p.obj, "ARCH=x86", "CC=" + tree.CC, "KERNELRELEASE=" + tree.Release, goal})
	}
	for _, argv := range steps {
		if out, err := exec.CommandContext(ctx, argv[0], argv[1:]...).CombinedOutput(); err != nil {
			return nil, fmt.Errorf("preparing plain kbuild: %s: %w: %s", strings.Join(argv, " "), err, last(out))
		}
	}
	return p, os.WriteFile(filepath.Join(dir, "ready"), nil, 0o644)
}

// notCompiled is a fix that is no concern of lupatch's.
type notCompiled struct{ reason, detail string }

func (e *notCompiled) Error() string { return e.reason + ": " + e.detail }

// sectionFlags are those that lupatch adds to compare two versions, as the
// design names them.
var sectionFlags = []string{"-ffunction-sections", "-fdata-sections", "-fno-optimize-sibling-calls"}

// objects gives the paths of the objects before and after the fix, made with
// the kernel's own flags and others. They are kept. A *notCompiled error is
// kept too.
func (p *plain) objects(ctx context.Context, f *fix, sources []string, flags ...string) (before, after map[string]string, err error) {
	dir := filepath.Join(p.kept, f.name)
	before, after = map[string]string{}, map[string]string{}
	missing, with := false, ""
	if len(flags) > 0 {
		with = ".flags"
	}
	if p.debug {
		with += ".debug"
	}
	for _, s := range sources {
		before[s] = filepath.Join(dir, flat(s)+with+".before.o")
		after[s] = filepath.Join(dir, flat(s)+with+".after.o")
		for _, o := range []string{before[s], after[s]} {
			if _, err := os.Stat(o); err != nil {
				missing = true
			}
		}
	}
	if b, err := os.ReadFile(filepath.Join(dir, "not-compiled")); err == nil {
		reason, detail, _ := strings.Cut(string(b), "\n")
		return nil, nil, &notCompiled{reason, detail}
	}
	if !missing {
		return before, after, nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, nil, err
	}
	err = p.both(ctx, f, sources, before, after, flags)
	var nc *notCompiled
	if errors.As(err, &nc) {
		if err := os.WriteFile(filepath.Join(dir, "not-compiled"), []byte(nc.reason+"\n"+nc.detail), 0o644); err != nil {
			return nil, nil, err
		}
	}
	if err != nil {
		return nil, nil, err
	}
	return before, after, nil
}

func (p *plain) both(ctx context.Context, f *fix, sources []string, before, after map[string]string, flags []string) (err error) {
	for _, s := range sources {
		if err := p.compile(ctx, s, before[s], flags); err != nil {
			return err
		}
	}
	defer func() { err = errors.Join(err, p.restore(f)) }()
	out, err := exec.CommandContext(ctx, "patch", "-p1", "--batch", "--forward", "--no-backup-if-mismatch", "-r", "-", "-d", p.src, "-i", f.path).CombinedOutput()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		return &notCompiled{"does-not-apply", last(out)}
	}
	for _, s := range sources {
		if err := p.compile(ctx, s, after[s], flags); err != nil {
			return err
		}
	}
	return nil
}

// compile makes one object and keeps its code without debugging information.
// `-o prepare` and the variables spare the check (2 s) that the folder is
// prepared.
func (p *plain) compile(ctx context.Context, source, to string, flags []string) error {
	goal := strings.TrimSuffix(source, ".c") + ".o"
	cmd := exec.CommandContext(ctx, "make", "-rR", "--no-print-directory", "-I", p.src, "-f", filepath.Join(p.src, "Makefile"), "-o", "prepare",
		"ARCH=x86", "CC=gcc-12", "KERNELRELEASE="+p.release, "KCFLAGS="+strings.Join(flags, " "), goal)
	cmd.Dir = p.obj
	cmd.Env = append(os.Environ(), "sub_make_done=1", "abs_srctree="+p.src, "abs_objtree="+p.obj, "quiet=silent_", "Q=@", "MAKEFLAGS=", "LC_ALL=C")
	object := filepath.Join(p.obj, goal)
	if err := os.Remove(object); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	out, err := cmd.CombinedOutput()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		reason := "does-not-compile"
		if bytes.Contains(out, []byte("No rule to make target")) {
			reason = "not-configured"
		}
		return &notCompiled{reason, strings.ReplaceAll(firstError(out), p.src+"/", "")}
	}
	if _, err := os.Stat(object); err != nil {
		return &notCompiled{"not-configured", "make made no " + goal}
	}
	keep := []string{"objcopy", "--strip-debug", object, to}
	if p.debug {
		keep = []string{"cp", object, to}
	}
	if out, err := exec.CommandContext(ctx, keep[0], keep[1:]...).CombinedOutput(); err != nil {
		return fmt.Errorf("keeping %s: %w: %s", goal, err, last(out))
	}
	return os.Remove(object)
}

// restore brings the copy back to what it was.
func (p *plain) restore(f *fix) error {
	for _, name := range f.files {
		b, err := os.ReadFile(filepath.Join(p.pristine, name))
		to := filepath.Join(p.src, name)
		if errors.Is(err, fs.ErrNotExist) {
			if err := os.Remove(to); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
			continue
		}
		if err != nil {
			return err
		}
		if err := os.WriteFile(to, b, 0o644); err != nil {
			return err
		}
	}
	return nil
}

func flat(name string) string { return strings.ReplaceAll(strings.TrimSuffix(name, ".c"), "/", "_") }

func firstError(out []byte) string {
	for l := range strings.Lines(string(out)) {
		if strings.Contains(l, "error:") || strings.Contains(l, "No rule to make") {
			return strings.TrimSpace(l)
		}
	}
	return last(out)
}

// last is the last line that says something.
func last(out []byte) string {
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	return strings.TrimSpace(lines[len(lines)-1])
}
