// SPDX-License-Identifier: Apache-2.0

package update

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/lupatch/lupatch/internal/journal"
	"github.com/lupatch/lupatch/internal/refuse"
)

const (
	// SettleTime is how long a boot has to last so that the updates in it count as
	// harmless.
	SettleTime = 10 * time.Minute
	// Parameter of the kernel's command line; "0" leaves committed updates out.
	Parameter = "lupatch.enable"
)

// Skipped is a committed update that was not applied at boot.
type Skipped struct {
	Update string `json:"update"`
	Reason string `json:"reason"`
}

// Boot is what was done at boot.
type Boot struct {
	Recovered []Recovered `json:"recovered"`
	Applied   []Result    `json:"applied"`
	Skipped   []Skipped   `json:"skipped"`
}

// Boot recovers, and then applies the updates again that were committed on the
// running kernel before it booted, the oldest first, each as a change of its own. One
// that is barred, or does not apply, is skipped; those that stand on it follow it. An
// error is of the first that failed; the others were tried nevertheless. With
// lupatch.enable=0 on the kernel's command line nothing is applied. It needs root.
func (h *Host) Boot(ctx context.Context, opt Options) (*Boot, error) {
	out := &Boot{Applied: []Result{}, Skipped: []Skipped{}}
	var err error
	if out.Recovered, err = h.Recover(ctx, opt); err != nil {
		return out, err
	}
	off, _, err := h.Kernel.Parameter(Parameter)
	if err != nil {
		return out, err
	}
	list, err := h.history()
	if err != nil {
		return out, err
	}
	release, err := h.Kernel.Release()
	if err != nil {
		return out, err
	}
	var failed error
	for _, u := range installed(list, release) {
		result, err := h.reapply(ctx, u, off == "0", opt)
		switch e, refused := refuse.As(err); {
		case err == nil && result == nil: // it is there
		case err == nil:
			out.Applied = append(out.Applied, *result)
		case refused && (e.ID == refuse.Barred || e.ID == refuse.WrongVersion && len(out.Skipped) > 0):
			// The second is a consequence of what was skipped before.
			out.Skipped = append(out.Skipped, Skipped{u.name, e.Detail})
		case errors.Is(err, errOff):
			out.Skipped = append(out.Skipped, Skipped{u.name, err.Error()})
		default:
			out.Skipped = append(out.Skipped, Skipped{u.name, err.Error()})
			failed = errors.Join(failed, err)
		}
	}
	return out, failed
}

var errOff = errors.New(Parameter + "=0 is on the kernel's command line")

// reapply applies an update of the store; the result is nil if it is in force.
func (h *Host) reapply(ctx context.Context, u *pastUpdate, off bool, opt Options) (*Result, error) {
	unlock := func() {}
	if !opt.DryRun {
		var err error
		if unlock, err = h.lock(); err != nil {
			return nil, err
		}
	}
	defer unlock()
	l, err := h.open(h.Store.Path(u.module), &opt)
	if err != nil {
		return nil, err
	}
	if l.buildID != u.buildID {
		return nil, fmt.Errorf("the copy of %s in the store is another build than the one that was applied", u.name)
	}
	notNow := h.checkAll(ctx, []*livepatch{l})
	if e, ok := refuse.As(notNow); ok && e.ID == refuse.AlreadyApplied {
		return nil, nil
	}
	if off {
		return nil, errOff
	}
	// As it is not in force, the host may ask anew who vouches for it.
	if err := vouchedFor([]*livepatch{l}); err != nil {
		return nil, err
	}
	past, err := h.settledHistory()
	if err != nil {
		return nil, err
	}
	if err := h.checkBars(past, []*livepatch{l}); err != nil {
		return nil, err
	}
	if notNow != nil {
		return nil, notNow
	}
	if opt.DryRun {
		return l.result, nil
	}
	if err := h.applyAll(ctx, KindReapply, []*livepatch{l}, &opt); err != nil {
		return nil, err
	}
	if u.module != l.module {
		// It was a later generation before the boot.
		if err := h.Store.Remove(u.module); err != nil {
			return nil, err
		}
	}
	return l.result, nil
}

// Settle notes that this boot has lasted SettleTime: from now on its updates count
// as harmless. It is refused before.
func (h *Host) Settle(opt Options) error {
	up, err := h.Kernel.Uptime()
	if err != nil {
		return err
	}
	if up < SettleTime {
		e := refuse.New(refuse.KernelBusy, "", "this host is up for %s, and a boot counts as harmless after %s", up.Round(time.Second), SettleTime)
		e.Remedy = "try it again later"
		return e
	}
	return h.recovering(opt, func(list []*past, j *journal.Journal, boot string) error {
		for _, p := range list {
			if p.kind == KindSettled && p.boot == boot {
				return nil
			}
		}
		return h.word(j, journal.Record{Kind: string(KindSettled), Boot: boot, State: journal.Committed})
	})
}

// Unbar allows the update name to be applied again. NotApplied is the refusal if it
// is not barred.
func (h *Host) Unbar(name string, opt Options) error {
	return h.recovering(opt, func(list []*past, j *journal.Journal, boot string) error {
		barred := bars(list, boot)
		for _, p := range list {
			for _, u := range p.updates {
				if u.name != name || barred[u.buildID] == "" {
					continue
				}
				return h.word(j, journal.Record{Kind: string(KindUnbar), Update: name, BuildID: u.buildID, Step: "unbar", State: journal.Done, Boot: boot})
			}
		}
		e := refuse.New(refuse.NotApplied, name, "it is not barred")
		e.Remedy = "see `lupatch status`"
		return e
	})
}

// word writes what is a change of one record.
func (h *Host) word(j *journal.Journal, r journal.Record) error {
	if j == nil {
		return nil // a dry run
	}
	c, err := h.newChange(Kind(r.Kind), &Options{})
	if err != nil {
		return err
	}
	r.Change, r.Release = c.ID, c.Release
	if err := appendRecord(j, r); err != nil {
		return err
	}
	if r.State == journal.Committed {
		return nil
	}
	return appendRecord(j, journal.Record{Change: c.ID, Kind: r.Kind, State: journal.Committed})
}
