// SPDX-License-Identifier: Apache-2.0

package kbuild

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/sirupsen/logrus"

	"github.com/lupatch/lupatch/internal/refuse"
)

// objtoolSaid matches what objtool has to say against code.
var objtoolSaid = regexp.MustCompile(`(?m)\bobjtool: .*$`)

// LinkModule runs the kernel's own module build on a folder of ours that has a
// Kbuild file, and gives the path of NAME.ko in it. Symbols that nobody exports
// are left undefined: a livepatch resolves them itself. BTF is left out, because
// no vmlinux is there to make it against. It takes 2 to 4 seconds.
func (t *Tree) LinkModule(ctx context.Context, dir, name string) (string, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	ko := filepath.Join(dir, name+".ko")
	if err := os.Remove(ko); err != nil && !os.IsNotExist(err) {
		return "", err
	}
	cmd := t.moduleCommand(ctx, t.Obj, dir, "KBUILD_MODPOST_WARN=1")
	_, log, err := runMake(cmd)
	logrus.Debugf("kbuild: linking %s: %s", name, log)
	if ctx.Err() != nil {
		return "", ctx.Err()
	}
	if err != nil {
		return "", &CompileError{
			Refusal: refuse.New(refuse.CompileFailed, name+".ko", "%s", firstErrors(log, 3)),
			Source:  name + ".ko",
			Log:     log,
		}
	}
	if said := objtoolSaid.FindAllString(log, -1); said != nil {
		// It leaves out what it did not get to, and make does not mind: stacks
		// could not be followed through the module.
		return "", &CompileError{
			Refusal: refuse.New(refuse.CompileFailed, name+".ko", "%s", strings.Join(said[:min(len(said), 3)], "; ")),
			Source:  name + ".ko",
			Log:     log,
		}
	}
	if !exists(ko) {
		return "", fmt.Errorf("linking %s: the kernel's build ended well but made no such file", ko)
	}
	return ko, nil
}
