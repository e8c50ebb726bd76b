// SPDX-License-Identifier: Apache-2.0

// Package update is the transaction: a Change is a list of Steps, each with do
// and undo, written to the journal before it is done; livepatch.go and
// rollback.go say which steps there are. A change ends with all of it in force
// or with nothing of it.
package update

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/lupatch/lupatch/internal/journal"
	"github.com/lupatch/lupatch/internal/refuse"
	"github.com/lupatch/lupatch/kpatch"
	"github.com/lupatch/lupatch/probation"
	"github.com/lupatch/lupatch/quiesce"
	"github.com/lupatch/lupatch/versions"
)

const (
	// JournalPath is where the journal lies, LockPath the lock that a process
	// holds while it changes the host.
	JournalPath = "/var/lib/lupatch/journal"
	LockPath    = "/run/lupatch.lock"

	// DefaultDeadline is how long a transition may take. The kernel tries the
	// tasks once a second and wakes sleeping ones with a fake signal after 15
	// (SIGNALS_TIMEOUT, kernel/livepatch/transition.c); what has not moved
	// after four times that waits for something else.
	DefaultDeadline = 60 * time.Second
)

// shortestReversal is how long a way back may take at least, however short the
// deadline of the way there is: it waits for tasks too, for all that have moved in the
// meantime, and the kernel looks at those that sleep once a second.
var shortestReversal = 10 * time.Second

// Host is the host that is changed.
type Host struct {
	// Root is put before every path; empty on a real host.
	Root   string
	Kernel *kpatch.Kernel
	Store  versions.Store
	// Drivers are the versions of replaced drivers.
	Drivers versions.DriverStore
}

// NewHost gives the host that kernel runs on.
func NewHost(kernel *kpatch.Kernel) *Host {
	// Each kernel has updates of its own, perhaps of the same names. A release that
	// cannot be read is an error of all that follows.
	release, _ := kernel.Release()
	return &Host{
		Root: kernel.Root, Kernel: kernel,
		Store:   versions.Store{Dir: kernel.Path(versions.StoreDir, release)},
		Drivers: versions.DriverStore{Dir: kernel.Path(versions.DriverDir, release)},
	}
}

// State reads what the host's kernel runs.
func (h *Host) State(ctx context.Context) (*versions.State, error) {
	return versions.Read(ctx, h.Kernel, h.Store)
}

func (h *Host) journalPath() string { return filepath.Join(h.Root, JournalPath) }

// Event is a report of progress.
type Event struct {
	// Update and Step say what is going on; State how far it has come.
	Update string        `json:"update"`
	Step   string        `json:"step"`
	State  journal.State `json:"state"`
	// Transition is set while tasks are waited for.
	Transition *kpatch.Progress `json:"transition,omitempty"`
	// Blockers are set while a quiet moment is waited for.
	Blockers []quiesce.Blocker `json:"blockers,omitempty"`
}

// Options are the same for every change.
type Options struct {
	// Deadline for a transition; DefaultDeadline if zero.
	Deadline time.Duration
	// Wait, in a recovery, is without a deadline.
	Wait bool
	// DryRun ends after the checks: nothing is written.
	DryRun bool
	// Later has Rollback take back what stands on an update, too.
	Later bool
	// Probation, of an apply; none if its time is zero.
	Probation probation.Options
	// WaitQuiet, if positive, has Apply wait so long for a moment in which no task is
	// in what is replaced; then the refusal is NeverQuiet.
	WaitQuiet time.Duration
	// Force has Apply not take back what tasks do not move to until the deadline, but
	// count them as moved; see Forced.
	Force bool
	// Lenient has a driver replaced by one that offers less; requests for what it
	// lacks fail from then on.
	Lenient bool
	// Untested allows drivers of which no replacement has been tried.
	Untested bool
	// Progress, if not nil, is called from the goroutine of the change.
	Progress func(Event)
}

func (o *Options) report(e Event) {
	if o.Progress != nil {
		o.Progress(e)
	}
}

func (o *Options) deadline() time.Duration {
	if o.Deadline <= 0 {
		return DefaultDeadline
	}
	return o.Deadline
}

// lock takes the host's lock without waiting. It goes with the process, however
// that ends (flock(2)).
func (h *Host) lock() (unlock func(), err error) {
	path := filepath.Join(h.Root, LockPath)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("locking the host: %w", err)
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if errors.Is(err, os.ErrPermission) {
		return nil, refuse.New(refuse.NotPermitted, "", "%s cannot be written", LockPath)
	}
	if err != nil {
		return nil, fmt.Errorf("locking the host: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		defer f.Close()
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("locking the host: %w", err)
		}
		holder := make([]byte, 32)
		n, _ := f.ReadAt(holder, 0)
		e := refuse.New(refuse.KernelBusy, "", "another lupatch is at work (process %s)", strings.TrimSpace(string(holder[:n])))
		e.Remedy = "wait until it has ended"
		return nil, e
	}
	// Only for the message above; the lock does not depend on it.
	if err := f.Truncate(0); err == nil {
		fmt.Fprintf(f, "%d\n", os.Getpid())
	}
	return func() { f.Close() }, nil
}
