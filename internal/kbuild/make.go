// SPDX-License-Identifier: Apache-2.0

package kbuild

import (
	"bytes"
	"context"
	"os/exec"
	"strings"
)

// makeCommand is a run of the kernel's makefiles in the build folder obj for
// the source src, without the check (2 s) whether the build folder is prepared.
//
// `-o prepare` says that the target "prepare" needs no remaking. The option is
// lost when make starts itself again for O=, hence the three variables that
// tell the top makefile that this has happened. quiet and Q are set in the part
// that is skipped.
func (t *Tree) makeCommand(ctx context.Context, src, obj string, args ...string) *exec.Cmd {
	base := []string{"-rR", "--no-print-directory", "-I", src, "-f", src + "/Makefile", "-o", "prepare"}
	cmd := exec.CommandContext(ctx, "make", append(append(base, t.makeVars()...), args...)...)
	cmd.Dir = obj
	cmd.Env = cleanEnv("sub_make_done=1", "abs_srctree="+src, "abs_objtree="+obj, "quiet=quiet_", "Q=@")
	return cmd
}

// moduleCommand is makeCommand for the folder of an out-of-tree module. The part
// of the top makefile that reads M= is among those skipped.
func (t *Tree) moduleCommand(ctx context.Context, obj, dir string, args ...string) *exec.Cmd {
	cmd := t.makeCommand(ctx, t.KernelSrc, obj, append(args, "modules")...)
	cmd.Env = append(cmd.Env, "KBUILD_EXTMOD="+dir)
	return cmd
}

func (t *Tree) makeVars() []string {
	return []string{"ARCH=x86", "CC=" + t.CC, "KERNELRELEASE=" + t.Release}
}

// runMake runs it and gives what it printed. With -k make fails if any target
// fails, so that the caller decides what an error means.
func runMake(cmd *exec.Cmd) (stdout []byte, stderr string, err error) {
	var out, log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &log
	err = cmd.Run()
	return out.Bytes(), log.String(), err
}

// firstErrors picks what a reader of a failed build wants first.
func firstErrors(log string, max int) string {
	var lines []string
	for l := range strings.SplitSeq(log, "\n") {
		if strings.HasPrefix(l, "WARNING: modpost") {
			continue // a livepatch leaves symbols open; that fails nothing
		}
		if strings.Contains(l, "error:") || strings.Contains(l, "*** ") || strings.Contains(l, "ERROR:") || strings.Contains(l, "can't open file") || strings.HasPrefix(l, "ld: ") || strings.Contains(l, "undefined!") {
			if lines = append(lines, strings.TrimSpace(l)); len(lines) == max {
				break
			}
		}
	}
	if len(lines) == 0 {
		all := strings.Split(strings.TrimSpace(log), "\n")
		lines = all[len(all)-min(len(all), max):]
	}
	return strings.Join(lines, "; ")
}
