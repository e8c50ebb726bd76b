// SPDX-License-Identifier: Apache-2.0

// Package refuse holds every reason for which lupatch declines to do what it
// was asked, so that a reason reads, exits and is documented the same way
// wherever it is met.
package refuse

import (
	"errors"
	"fmt"
)

const (
	// ExitCode is the exit status of a command that ended in a refusal.
	ExitCode = 3
	// ReversedCode is that of one whose change was taken back because a driver failed, or tasks kept
	// using what it replaces.
	ReversedCode = 4
)

// ID names one kind of refusal. It is stable: scripts and reports match on it.
type ID string

// Error is a refusal: something that lupatch could understand and will not do.
// It is not a failure of the tool.
type Error struct {
	// ID says which kind of refusal this is.
	ID ID `json:"id"`
	// Detail is one sentence that names what was met and where.
	Detail string `json:"detail"`
	// Where is the place: a function, a symbol, a file and line. May be empty.
	Where string `json:"where,omitempty"`
	// Help says more, in several lines, such as code to start from. May be empty.
	Help string `json:"help,omitempty"`
	// Remedy overrides the remedy listed for the ID, if not empty.
	Remedy string `json:"remedy,omitempty"`
}

// Error gives identifier and detail in one line.
func (e *Error) Error() string {
	if e.Where != "" {
		return fmt.Sprintf("%s: %s: %s", e.ID, e.Where, e.Detail)
	}
	return fmt.Sprintf("%s: %s", e.ID, e.Detail)
}

// Code is the exit status of a command that ends with it.
func (e *Error) Code() int {
	if e.ID == TransitionReversed || e.ID == DriverFailed {
		return ReversedCode
	}
	return ExitCode
}

// Advice is what the reader can do about it.
func (e *Error) Advice() string {
	if e.Remedy != "" {
		return e.Remedy
	}
	return Describe(e.ID).Remedy
}

// New makes a refusal. It panics if id is not in the table: a refusal without
// documentation is a defect of the program.
func New(id ID, where, format string, args ...any) *Error {
	Describe(id)
	return &Error{ID: id, Where: where, Detail: fmt.Sprintf(format, args...)}
}

// As finds the refusal in an error chain; ok is false if there is none.
func As(err error) (e *Error, ok bool) {
	ok = errors.As(err, &e)
	return e, ok
}
