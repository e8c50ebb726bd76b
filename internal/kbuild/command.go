// SPDX-License-Identifier: Apache-2.0

package kbuild

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// invocation is a compilation of a TU with its paths settled.
type invocation struct {
	tu   *TU
	ov   *Overlay
	args []string // without -c -o OBJECT SOURCE and without the dependency file
	src  string   // the source file
}

// invoke takes the captured command line apart and leads paths of the source to
// the overlay. What the code sees of paths (__FILE__) stays as it was.
func (t *Tree) invoke(tu *TU, ov *Overlay, extra []string) *invocation {
	n := len(tu.Compile)
	inv := &invocation{tu: tu, ov: ov, src: tu.Compile[n-1]}
	for _, a := range tu.Compile[:n-3] { // -o OBJECT SOURCE
		if a == "-c" || strings.HasPrefix(a, "-Wp,-MMD,") || strings.HasPrefix(a, "-Wp,-MD,") {
			continue
		}
		inv.args = append(inv.args, a)
	}
	inv.args = append(inv.args, extra...)
	if ov == nil {
		return inv
	}
	for i, a := range inv.args {
		inv.args[i] = moveRoot(a, t.Src, ov.Root)
	}
	inv.src = moveRoot(inv.src, t.Src, ov.Root)
	if ov.Include != "" {
		inv.args = append(inv.args, "-I"+ov.Include) // behind the kernel's own
	}
	// Debugging information names the source's own place, so that an object
	// does not depend on where the overlay was. A module's __FILE__ is an
	// absolute path; the kernel's is made relative by the flag it has.
	inv.args = append(inv.args, "-fdebug-prefix-map="+ov.Root+"="+t.Src)
	if t.Kind == KindModule {
		inv.args = append(inv.args, "-fmacro-prefix-map="+ov.Root+"="+t.Src)
	}
	return inv
}

// moveRoot replaces the root of a path that is a word or the end of one.
func moveRoot(word, from, to string) string {
	if strings.HasSuffix(word, from) {
		return strings.TrimSuffix(word, from) + to
	}
	return strings.ReplaceAll(word, from+"/", to+"/")
}

// run runs the compiler (args[0]) in the build folder.
func (inv *invocation) run(ctx context.Context, args ...string) (stdout []byte, log string, err error) {
	all := append(slices.Clone(inv.args), args...)
	cmd := exec.CommandContext(ctx, all[0], all[1:]...)
	cmd.Dir = inv.tu.Obj
	cmd.Env = cleanEnv()
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err = cmd.Run()
	if ctx.Err() != nil {
		err = ctx.Err()
	}
	return out.Bytes(), errs.String(), err
}

// preprocess gives the preprocessed text and the files it was made of. It
// repeats the run until nothing is read past the overlay.
func (inv *invocation) preprocess(ctx context.Context, args ...string) (text []byte, deps []string, err error) {
	dir, err := os.MkdirTemp("", "lupatch-deps-")
	if err != nil {
		return nil, nil, err
	}
	defer os.RemoveAll(dir)
	depFile := filepath.Join(dir, "deps")
	// In each round at least one folder was made real, here or by another
	// compilation; no header is reached by that many.
	const rounds = 256
	for range rounds {
		var made int64
		if inv.ov != nil {
			made = inv.ov.state()
		}
		text, log, err := inv.run(ctx, append(args, "-E", "-Wp,-MD,"+depFile, "-o", "-", inv.src)...)
		if err != nil {
			return nil, nil, inv.failed(ctx, log, err)
		}
		b, err := os.ReadFile(depFile)
		if err != nil {
			return nil, nil, err
		}
		deps := parseDeps(b)
		if inv.ov == nil {
			return text, deps, nil
		}
		again, err := inv.ov.leaks(deps)
		if err != nil {
			return nil, nil, err
		}
		if !again && inv.ov.state() == made {
			return text, deps, nil
		}
	}
	return nil, nil, errors.New("compiling with changed files: the unchanged ones are read again and again")
}

// parseDeps reads a dependency file of the compiler: "target: a b \ c".
func parseDeps(b []byte) []string {
	_, rest, ok := bytes.Cut(b, []byte(": "))
	if !ok {
		return nil
	}
	rest = bytes.ReplaceAll(rest, []byte("\\\n"), []byte(" "))
	var out []string
	for f := range bytes.FieldsSeq(rest) {
		out = append(out, string(f))
	}
	return out
}
