// SPDX-License-Identifier: Apache-2.0

package kbuild

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
)

// Flavor says what an object is for.
type Flavor string

const (
	// Shipped is exactly what the distribution compiled, objtool included.
	Shipped Flavor = "shipped"
	// Sections has each function and datum in a section of its own, so that
	// two versions can be compared. Where objtool runs late, it has not run.
	Sections Flavor = "sections"
)

// sectionFlags make an object that can be taken apart. A tail call would leave
// no trace of the caller on the stack, which livepatch's safety check needs.
var sectionFlags = []string{"-ffunction-sections", "-fdata-sections", "-fno-optimize-sibling-calls"}

// Job is one compilation.
type Job struct {
	TU *TU
	// Overlay is nil for the unaltered source.
	Overlay *Overlay
	Flavor  Flavor
	// ExtraFlags are put behind all others.
	ExtraFlags []string
}

// Object is the result of a Job.
type Object struct {
	// Path is the object file in the cache. It is shared and must not be
	// changed.
	Path string
	// Key names the content: equal keys, equal objects.
	Key string
	// Cached says that the file was there already.
	Cached bool
	Took   time.Duration
	// Warnings is what compiler and objtool printed; empty if cached.
	Warnings string
}

// keyVersion changes when the meaning of a key does.
const keyVersion = "lupatch-object-1"

// Compile compiles a file, or takes the object from the cache if the
// preprocessed text, the flags and the tools are the same. A *CompileError
// (CompileFailed) says that it does not compile.
func (t *Tree) Compile(ctx context.Context, job Job) (*Object, error) {
	start := time.Now()
	obj, err := t.compile(ctx, job)
	var ce *CompileError
	if errors.As(err, &ce) && ce.Missing != "" && job.TU.Obj == t.Obj {
		if tu, ferr := t.fullTU(ctx, job, ce); ferr != nil {
			return nil, ferr
		} else if tu != nil {
			job.TU = tu
			obj, err = t.compile(ctx, job)
		}
	}
	if err != nil {
		return nil, err
	}
	obj.Took = time.Since(start)
	return obj, nil
}

func (j Job) flags() ([]string, error) {
	switch j.Flavor {
	case Shipped:
		return j.ExtraFlags, nil
	case Sections:
		return append(slices.Clone(sectionFlags), j.ExtraFlags...), nil
	}
	return nil, fmt.Errorf("compiling %s: no flavor %q", j.TU.Source, j.Flavor)
}

// tools lists the objtool commands that the job's object goes through.
func (j Job) tools() [][]string {
	if j.Flavor == Shipped && j.TU.Late != nil {
		return append(slices.Clone(j.TU.Objtool), j.TU.Late)
	}
	return j.TU.Objtool
}

// workPrefix begins the names of folders in which this process compiles: others
// may share the cache.
func workPrefix() string { return fmt.Sprintf(".work-%d-", os.Getpid()) }

func (t *Tree) compile(ctx context.Context, job Job) (*Object, error) {
	flags, err := job.flags()
	if err != nil {
		return nil, err
	}
	inv := t.invoke(job.TU, job.Overlay, flags)
	text, _, err := inv.preprocess(ctx)
	if err != nil {
		return nil, err
	}
	key, err := t.objectKey(ctx, inv, job.tools(), text)
	if err != nil {
		return nil, err
	}
	obj := &Object{Key: key, Path: filepath.Join(t.cache, "objects", key[:2], key+".o")}
	if exists(obj.Path) {
		obj.Cached = true
		now := time.Now()
		_ = os.Chtimes(obj.Path, now, now) // who cleans the cache takes the oldest
		return obj, nil
	}
	if err := os.MkdirAll(filepath.Dir(obj.Path), 0o755); err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(filepath.Dir(obj.Path), workPrefix())
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	tmp := filepath.Join(dir, filepath.Base(job.TU.Object))
	_, log, err := inv.run(ctx, "-c", "-o", tmp, inv.src)
	if err != nil {
		return nil, inv.failed(ctx, log, err)
	}
	for _, words := range job.tools() {
		out, err := t.objtool(ctx, inv, words, tmp)
		log += out
		if err != nil {
			return nil, inv.failed(ctx, log, err)
		}
	}
	obj.Warnings = log
	return obj, os.Rename(tmp, obj.Path)
}

// objtool runs a captured objtool command on another file than it was for.
func (t *Tree) objtool(ctx context.Context, inv *invocation, words []string, file string) (string, error) {
	args := slices.Clone(words[1:])
	for i, a := range args {
		if a == inv.tu.Object || strings.HasSuffix(a, "/"+inv.tu.Object) {
			args[i] = file
		}
	}
	if !slices.Contains(args, file) {
		return "", fmt.Errorf("compiling %s: objtool's command does not name the object", inv.tu.Source)
	}
	cmd := exec.CommandContext(ctx, words[0], args...)
	// The makefiles export it; Debian's objtool is a script that picks the
	// program for this architecture by it.
	cmd.Dir, cmd.Env = inv.tu.Obj, cleanEnv("SRCARCH=x86")
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// objectKey is the digest of all that an object depends on.
func (t *Tree) objectKey(ctx context.Context, inv *invocation, tools [][]string, text []byte) (string, error) {
	id, err := t.compilerID(ctx)
	if err != nil {
		return "", err
	}
	h := sha256.New()
	field := func(b []byte) {
		fmt.Fprintf(h, "%d:", len(b))
		h.Write(b)
	}
	field([]byte(keyVersion))
	field([]byte(id))
	field([]byte(inv.tu.Obj))
	place := func(s string) string { return s }
	if inv.ov != nil {
		place = func(s string) string { return moveRoot(s, inv.ov.Root, t.Src) }
		text = bytes.ReplaceAll(text, []byte(inv.ov.Root+"/"), []byte(t.Src+"/"))
	}
	for _, a := range inv.args {
		// Where the overlay is and that there is one makes no difference.
		if inv.ov != nil && (strings.Contains(a, "-prefix-map="+inv.ov.Root+"=") || inv.ov.Include != "" && a == "-I"+inv.ov.Include) {
			continue
		}
		field([]byte(place(a)))
	}
	field([]byte(place(inv.src)))
	field(text)
	for _, words := range tools {
		field([]byte(strings.Join(words, "\x00")))
		tool := words[0]
		if !filepath.IsAbs(tool) {
			tool = filepath.Join(inv.tu.Obj, tool)
		}
		f, err := os.Open(tool)
		if err != nil {
			return "", fmt.Errorf("reading objtool: %w", err)
		}
		_, err = io.Copy(h, f)
		f.Close()
		if err != nil {
			return "", fmt.Errorf("reading objtool: %w", err)
		}
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// CompileAll compiles several files in parallel. The objects come in the order
// of the jobs; the first error ends all.
func (t *Tree) CompileAll(ctx context.Context, jobs []Job) ([]*Object, error) {
	out := make([]*Object, len(jobs))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(t.opt.Jobs)
	done := make(chan struct{}, len(jobs))
	counted := make(chan struct{})
	go func() {
		defer close(counted)
		var n int64
		for range done {
			n++
			t.progress("compiling", n, int64(len(jobs)))
		}
	}()
	for i, job := range jobs {
		g.Go(func() error {
			obj, err := t.Compile(ctx, job)
			out[i] = obj
			done <- struct{}{}
			return err
		})
	}
	err := g.Wait()
	close(done)
	<-counted
	if err != nil {
		return nil, err
	}
	return out, nil
}

// Preprocess gives a file's preprocessed text without line markers: what decides
// whether a changed header matters to it.
func (t *Tree) Preprocess(ctx context.Context, tu *TU, ov *Overlay) ([]byte, error) {
	inv := t.invoke(tu, ov, nil)
	text, _, err := inv.preprocess(ctx, "-P")
	return text, err
}
