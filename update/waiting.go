// SPDX-License-Identifier: Apache-2.0

package update

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/lupatch/lupatch/internal/refuse"
	"github.com/lupatch/lupatch/kpatch"
	"github.com/lupatch/lupatch/quiesce"
)

// late makes the error of a transition that did not end in time. If it has ended
// at the last moment, ended is true. left are the functions that it leaves.
func (h *Host) late(ctx context.Context, module string, left []quiesce.Function, deadline time.Duration) (ended bool, err error) {
	who, err := h.waitsFor(ctx, module, left)
	switch {
	case err != nil:
		return false, err
	case who == "":
		return true, nil
	case ctx.Err() != nil:
		return false, fmt.Errorf("interrupted while waiting for %s: %w", who, ctx.Err())
	}
	return false, refuse.New(refuse.TransitionReversed, module, "after %s it still waited for %s", deadline, who)
}

// waitsFor names the tasks that a transition waits for; empty if there is none.
func (h *Host) waitsFor(ctx context.Context, module string, left []quiesce.Function) (string, error) {
	ctx = context.WithoutCancel(ctx)
	now, err := h.Kernel.Blockers(ctx, module)
	switch {
	case err != nil || now == nil:
		return "", err
	case len(now.Remaining) == 0:
		return "tasks that procfs does not show, such as the idle ones", nil
	}
	w := quiesce.Watch{Kernel: h.Kernel, Functions: left}
	if err := w.Explain(ctx, now); err != nil {
		logrus.Debugf("%v", err)
	}
	return kpatch.Names(now.Remaining), nil
}

// waits says more of the error of a wait: whom it was for.
func (h *Host) waits(ctx context.Context, module string, left []quiesce.Function, err error) error {
	if !errors.Is(err, kpatch.ErrStillInTransition) {
		return err
	}
	if who, werr := h.waitsFor(ctx, module, left); werr == nil && who != "" {
		return fmt.Errorf("the way back still waits for %s: %w", who, err)
	}
	return err
}
