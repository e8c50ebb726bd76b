// SPDX-License-Identifier: Apache-2.0

package kbuild

import (
	"context"
	"os/exec"
	"regexp"
	"strings"

	"errors"

	"github.com/lupatch/lupatch/internal/refuse"
)

// CompileError is a file that does not compile, or on which objtool fails. It
// unwraps to a *refuse.Error with CompileFailed.
type CompileError struct {
	Refusal *refuse.Error
	// Source is the file's path relative to the tree's root.
	Source string
	// Log is all that the compiler printed.
	Log string
	// Missing is the header whose absence stopped the compiler, if that is
	// what happened.
	Missing string
}

// Error gives the first errors only.
func (e *CompileError) Error() string { return e.Refusal.Error() }

// Unwrap gives the refusal.
func (e *CompileError) Unwrap() error { return e.Refusal }

var missingHeader = regexp.MustCompile(`fatal error: ([^:\s]+): No such file or directory`)

// failed makes the error of a compiler that ended with one.
func (inv *invocation) failed(ctx context.Context, log string, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		return err
	}
	if inv.ov != nil {
		// The user knows the file by its path in the tree.
		log = strings.ReplaceAll(log, inv.ov.Root+"/", "")
	}
	e := &CompileError{
		Refusal: refuse.New(refuse.CompileFailed, inv.tu.Source, "%s", firstErrors(log, 3)),
		Source:  inv.tu.Source,
		Log:     log,
	}
	if m := missingHeader.FindStringSubmatch(log); m != nil {
		e.Missing = m[1]
	}
	return e
}
