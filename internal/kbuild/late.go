// SPDX-License-Identifier: Apache-2.0

package kbuild

import (
	"context"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// Kernels with IBT run objtool on vmlinux.o and on the linked objects of a
// module (delay-objtool in scripts/Makefile.lib, since 5.18): which ENDBR
// instructions are needless cannot be told from one object. The same command on
// a single object makes the same changes to its code and the same lists of
// places in it; only what it says about ENDBR is said of that object alone.

// linkedOption marks the command lines of objtool that are for linked objects.
const linkedOption = "--link"

// generates are options that add to an object. Without any of them objtool has
// only validated what it was run on.
var generates = []string{"--orc", "--retpoline", "--rethunk", "--static-call"}

// setLate finds the objtool command that the object's module or vmlinux goes
// through after linking.
func (t *Tree) setLate(ctx context.Context, tu *TU, l *listing) error {
	if tu.Late != nil || len(tu.Objtool) > 0 || !t.Config.Enabled("CONFIG_OBJTOOL") {
		return nil
	}
	if tu.Module == "" {
		late, err := t.lateKernel(ctx)
		if err != nil {
			return err
		}
		tu.Late = forObject(late, "vmlinux.o", tu.Object)
		return nil
	}
	text, ok := l.Late[tu.Module]
	if !ok {
		return nil // the file is excluded from objtool
	}
	words := strings.Fields(unmark(text, t.Src, tu.Obj))
	if tu.Late = forObject(words, words[len(words)-1], tu.Object); !slices.Contains(tu.Late, linkedOption) {
		return fmt.Errorf("reading the command of %s: objtool is not told that it is linked: %q", tu.Module, text)
	}
	return nil
}

func forObject(words []string, from, to string) []string {
	out := slices.Clone(words)
	for i, w := range out {
		if w == from {
			out[i] = to
		}
	}
	return out
}

var kernelObjtool = regexp.MustCompile(`; *(\S*/objtool/objtool [^;']*\bvmlinux\.o)`)

// lateKernel asks the makefiles what objtool does to vmlinux.o; nil if that is
// nothing or validation only, as on kernels that run it on each object.
func (t *Tree) lateKernel(ctx context.Context) ([]string, error) {
	makefile := filepath.Join(t.KernelSrc, "scripts/Makefile.vmlinux_o")
	if t.Kind == KindModule || !exists(makefile) {
		return nil, nil
	}
	t.lateMu.Lock()
	defer t.lateMu.Unlock()
	if t.lateDone {
		return t.late, nil
	}
	// The archive of all objects is what vmlinux.o is made of; nobody has it,
	// and with -n nobody needs it.
	cmd := t.makeCommand(ctx, t.KernelSrc, t.Obj)
	args := []string{"-n", "-rR", "--no-print-directory", "-I", t.KernelSrc, "-f", makefile, "--eval=vmlinux.a: ;"}
	vars := []string{"srctree=" + t.KernelSrc, "srcroot=" + t.KernelSrc, "objtree=.", "SRCARCH=x86", "LD=ld", "NM=nm"}
	cmd.Args = slices.Concat(cmd.Args[:1], args, t.makeVars(), vars, []string{"vmlinux.o"})
	out, log, err := runMake(cmd)
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if err != nil {
		return nil, fmt.Errorf("asking the makefiles about vmlinux.o: %w: %s", err, firstErrors(log, 3))
	}
	if m := kernelObjtool.FindSubmatch(out); m != nil {
		words := strings.Fields(string(m[1]))
		if slices.ContainsFunc(generates, func(o string) bool { return slices.Contains(words, o) }) {
			t.late = words
		}
	}
	t.lateDone = true
	return t.late, nil
}
