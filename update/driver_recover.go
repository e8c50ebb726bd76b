// SPDX-License-Identifier: Apache-2.0

package update

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/lupatch/lupatch/internal/journal"
	"github.com/lupatch/lupatch/internal/refuse"
	"github.com/lupatch/lupatch/shadow"
)

// driver ends the replacement of a driver that was interrupted. There is nothing to
// do to the kernel: the guardian has brought a driver back by then, or the host has
// booted. Which one runs is what is written down, and what the next boot gets.
func (r *recovery) driver(ctx context.Context) (Outcome, string, error) {
	if len(r.p.updates) == 0 {
		return r.end(OutcomeUndone, "it was interrupted before its first step")
	}
	u := r.p.updates[0]
	if r.p.boot == r.present && r.p.fault && u.steps[stepInitialise] == journal.Failed {
		died := &DiedError{Module: u.module, Cause: errors.New("this boot")}
		return "", "", &UndoError{Cause: died, Undo: errors.New("only the next boot ends that"), Step: stepInitialise, Name: u.name}
	}
	if r.p.boot == r.present {
		if err := noSession(ctx); err != nil {
			return "", "", err
		}
	}
	id, err := r.h.Kernel.ModuleBuildID(u.module)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", "", err
	}
	if id == u.buildID && r.p.kind == KindDriver && r.p.boot != r.present {
		// The file was installed; the host has come up with it.
		return r.end(OutcomeCompleted, "the host has booted with it since")
	}
	if err := r.h.installRunning(u.module); err != nil {
		return "", "", err
	}
	switch {
	case id == u.buildID:
		return r.end(OutcomeCompleted, "its driver is at work")
	case id == "":
		return r.end(OutcomeUndone, fmt.Sprintf("no driver %s is loaded", u.module))
	}
	return r.end(OutcomeUndone, "the driver of before is at work")
}

// noSession waits for the guardian of an interrupted replacement.
func noSession(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, lockPatience)
	defer cancel()
	t := time.NewTicker(100 * time.Millisecond)
	defer t.Stop()
	for {
		c, err := shadow.Open()
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		info, err := c.Info()
		c.Close()
		if err != nil || info.Session == 0 {
			return err
		}
		select {
		case <-t.C:
		case <-ctx.Done():
			return refuse.New(refuse.KernelBusy, "", "a driver is still being replaced")
		}
	}
}
