// SPDX-License-Identifier: Apache-2.0

package update

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/lupatch/lupatch/internal/journal"
	"github.com/lupatch/lupatch/probation"
)

// Step is one thing to do. A step whose Do fails has had no effect.
type Step struct {
	Name string
	// Update, BuildID and Module are for the journal: which update, and under which
	// name it is loaded. Module may be known only when the step begins.
	Update, BuildID string
	Module          func() string
	Do              func(context.Context) error
	// Undo takes back what Do did; nil if there is nothing to take back. Its
	// context does not end when that of the change does.
	Undo func(context.Context) error
	// Final marks the step behind which there is no way back: the change is then
	// finished whatever happens to the journal or to its context.
	Final bool
}

// Change is a list of steps that end all done, or all undone.
type Change struct {
	ID   string
	Kind Kind
	// Boot and Release are the kernel's.
	Boot, Release string
	Updates       []string
	Steps         []Step
	// UndoTime bounds each undo; DefaultDeadline if zero.
	UndoTime time.Duration

	final bool
}

// Kind is what a change does.
type Kind string

// The kinds of changes. The last three change no code: what the journal has of
// them is for deciding later.
const (
	KindApply    Kind = "apply"
	KindRollback Kind = "rollback"
	// KindReapply puts a committed update in force again after a boot.
	KindReapply Kind = "reapply"
	// KindDriver replaces a driver by another version, KindDriverBack by the one before.
	KindDriver     Kind = "driver"
	KindDriverBack Kind = "driver-rollback"
	// KindSettled says that a boot has lasted long enough.
	KindSettled Kind = "settled"
	// KindUnbar is an operator's word that updates may be applied again.
	KindUnbar Kind = "unbar"
)

// UndoError says that a change failed and could not be taken back entirely.
type UndoError struct {
	// Cause is why the change failed, Undo why Step could not be undone.
	Cause, Undo error
	Step, Name  string
}

// Unwrap gives both.
func (e *UndoError) Unwrap() []error { return []error{e.Cause, e.Undo} }

// Error names both.
func (e *UndoError) Error() string {
	return fmt.Sprintf("%s; and taking it back is not finished (%s of %s: %s)", e.Cause, e.Step, e.Name, e.Undo)
}

// newChange begins a change on the kernel that runs.
func (h *Host) newChange(kind Kind, opt *Options) (*Change, error) {
	c := &Change{ID: fmt.Sprintf("%s-%s-%d", time.Now().UTC().Format("20060102T150405.000000"), kind, os.Getpid()), Kind: kind, UndoTime: max(opt.deadline(), shortestReversal)}
	var err error
	if c.Boot, err = h.Kernel.BootID(); err != nil {
		return nil, err
	}
	c.Release, err = h.Kernel.Release()
	return c, err
}

// run carries the change out. It returns nil if it is committed; the error of
// the step that failed if everything before it is undone; an *UndoError if that
// could not be done. The journal has each step before it begins.
func (c *Change) run(ctx context.Context, j *journal.Journal, report func(Event)) error {
	if err := c.note(j, journal.Record{Updates: c.Updates, State: journal.Begin, Boot: c.Boot, Release: c.Release, Steps: len(c.Steps)}); err != nil {
		return err
	}
	for i := range c.Steps {
		if err := c.do(ctx, i, j, report); err != nil {
			return c.unwind(ctx, i, err, j, report)
		}
		if c.final {
			ctx = context.WithoutCancel(ctx)
		}
	}
	if err := c.note(j, journal.Record{Updates: c.Updates, State: journal.Committed}); err != nil {
		return c.unwind(ctx, len(c.Steps), err, j, report)
	}
	return nil
}

// note writes a record. Behind a final step a journal that fails is no reason to
// stop.
func (c *Change) note(j *journal.Journal, r journal.Record) error {
	r.Change, r.Kind = c.ID, string(c.Kind)
	err := appendRecord(j, r)
	if err != nil && c.final {
		logrus.Warnf("%v", err)
		return nil
	}
	return err
}

// do carries out step i. An error before the step begins, of the journal or of
// ctx, counts as the step's own.
func (c *Change) do(ctx context.Context, i int, j *journal.Journal, report func(Event)) error {
	s := &c.Steps[i]
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("interrupted before step %q: %w", s.Name, err)
	}
	if err := c.note(j, c.record(s, journal.Begin, nil)); err != nil {
		return err
	}
	report(Event{Update: s.Update, Step: s.Name, State: journal.Begin})
	logrus.WithFields(logrus.Fields{"change": c.ID, "update": s.Update}).Debugf("doing %s", s.Name)
	if err := s.Do(ctx); err != nil {
		// The journal's own failure here is second to the step's.
		if jerr := c.note(j, c.record(s, journal.Failed, err)); jerr != nil {
			logrus.Warnf("%v", jerr)
		}
		report(Event{Update: s.Update, Step: s.Name, State: journal.Failed})
		return err
	}
	report(Event{Update: s.Update, Step: s.Name, State: journal.Done})
	c.final = c.final || s.Final
	if err := c.note(j, c.record(s, journal.Done, nil)); err != nil {
		// It is done all the same, and has to be undone with the others.
		if uerr := c.undo(ctx, s, j, report); uerr != nil {
			return &UndoError{Cause: err, Undo: uerr, Step: s.Name, Name: s.Update}
		}
		return err
	}
	return nil
}

// unwind undoes the steps before the i-th, the last first, and stops at the
// first that cannot be undone: the earlier ones rest on it.
func (c *Change) unwind(ctx context.Context, i int, cause error, j *journal.Journal, report func(Event)) error {
	if _, stuck := cause.(*UndoError); stuck || c.final {
		return cause
	}
	for i--; i >= 0; i-- {
		s := &c.Steps[i]
		if s.Undo == nil {
			continue
		}
		if err := c.undo(ctx, s, j, report); err != nil {
			return &UndoError{Cause: cause, Undo: err, Step: s.Name, Name: s.Update}
		}
	}
	if err := c.note(j, journal.Record{Updates: c.Updates, State: journal.Aborted, Detail: cause.Error()}); err != nil {
		logrus.Warnf("%v", err)
	}
	return cause
}

// undo goes on although the journal may fail: a host that is back in its old
// state with a gap in the journal is better than one that is not.
func (c *Change) undo(ctx context.Context, s *Step, j *journal.Journal, report func(Event)) error {
	if s.Undo == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cmp.Or(c.UndoTime, DefaultDeadline))
	defer cancel()
	note := func(state journal.State, err error) {
		report(Event{Update: s.Update, Step: s.Name, State: state})
		if jerr := c.note(j, c.record(s, state, err)); jerr != nil {
			logrus.Warnf("%v", jerr)
		}
	}
	note(journal.Undo, nil)
	if err := s.Undo(ctx); err != nil {
		note(journal.Stuck, err)
		return err
	}
	note(journal.Undone, nil)
	return nil
}

func (c *Change) record(s *Step, state journal.State, err error) journal.Record {
	r := journal.Record{Update: s.Update, BuildID: s.BuildID, Step: s.Name, State: state}
	if s.Module != nil {
		r.Module = s.Module()
	}
	if err != nil {
		var died *DiedError
		_, r.Fault = probation.Of(err)
		r.Fault = r.Fault || errors.As(err, &died)
		// A list of tasks may be long.
		const detailMax = 64 << 10
		r.Detail = err.Error()
		r.Detail = r.Detail[:min(len(r.Detail), detailMax)]
	}
	return r
}
