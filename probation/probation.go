// SPDX-License-Identifier: Apache-2.0

// Package probation watches a host while an update is loaded and for some time
// afterwards: faults that the kernel reports, tasks that hang, and checks that
// the operator gives. What is attributed to an update fails its probation;
// everything else that is new is reported. Nothing is changed here: package
// update takes the update back.
//
// It needs CAP_SYSLOG for the kernel's log, CAP_SYS_ADMIN for stacks, and CAP_BPF
// and CAP_PERFMON for the tracepoint; what it may not see it says.
package probation

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/lupatch/lupatch/kpatch"
)

const (
	// Default is how long an update is watched after its transition.
	Default = 30 * time.Second
	// interval is how often the sources are looked at, blockedEvery how often
	// all tasks are: that reads a file of each.
	interval     = 250 * time.Millisecond
	blockedEvery = 2 * time.Second
	// reportsMax bounds the reports that are kept.
	reportsMax = 64
)

// Options of a watch.
type Options struct {
	// For is how long probation lasts.
	For time.Duration
	// Health are the operator's checks; see Healthy.
	Health []string
	// HealthTimeout and HealthEvery are DefaultHealthTimeout and
	// DefaultHealthEvery if zero.
	HealthTimeout, HealthEvery time.Duration
}

// Outcome is what was seen.
type Outcome struct {
	// Watched is how long, after the transition.
	Watched time.Duration `json:"watched_ns"`
	// Reports are those that are attributed to no update of this change.
	Reports []*Report `json:"reports"`
	// Taint is what the kernel's taint has got meanwhile, without what loading
	// sets by itself.
	Taint []kpatch.TaintFlag `json:"taint"`
	// Lost is the number of messages that were overwritten before they could be
	// read; Dropped that of reports beyond those kept.
	Lost    uint64 `json:"lost,omitempty"`
	Dropped int    `json:"dropped,omitempty"`
	// Checks is how often the health checks were run and passed.
	Checks int `json:"checks,omitempty"`
	// Blind says what could not be watched, and why.
	Blind []string `json:"blind,omitempty"`
}

// Watch is a host that is watched.
type Watch struct {
	k     *kpatch.Kernel
	opt   Options
	log   *kpatch.Log
	trace *trace
	taint kpatch.Taint
	count kpatch.Counts

	stop context.CancelFunc
	done chan struct{} // closed when the goroutine has ended

	mu      sync.Mutex
	updates []Update
	parser  parser
	hung    hung
	out     Outcome
	seen    []*Report // all that were kept
	begun   time.Time // when probation proper began; zero before
	failure *Failure
	failed  chan struct{}
}

// Open begins to watch, before anything is loaded. What cannot be watched is in
// the outcome.
func Open(k *kpatch.Kernel, opt Options) *Watch {
	w := &Watch{k: k, opt: opt, done: make(chan struct{}), failed: make(chan struct{})}
	w.out.Reports, w.out.Taint = []*Report{}, []kpatch.TaintFlag{}
	var err error
	if w.log, err = k.OpenLog(); err != nil {
		w.blind(err)
	}
	if w.taint, err = k.Tainted(); err != nil {
		w.blind(err)
	}
	w.count = k.Counts()
	if k.Root == "" { // a host's own kernel, not a picture of one
		if w.trace, err = openTrace(); err != nil {
			w.blind(err)
		}
	}
	ctx, stop := context.WithCancel(context.Background())
	w.stop = stop
	w.hung.baseline(ctx, k)
	go w.loop(ctx)
	return w
}

func (w *Watch) blind(err error) { w.out.Blind = append(w.out.Blind, err.Error()) }

// Add names an update, before it is loaded.
func (w *Watch) Add(u Update) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.updates = append(w.updates, u)
}

// Close ends the watch.
func (w *Watch) Close() {
	w.stop()
	<-w.done
	w.trace.close()
	if w.log != nil {
		w.log.Close()
		w.log = nil
	}
}

// Failed is closed when something was seen that is attributed to an update.
func (w *Watch) Failed() <-chan struct{} { return w.failed }

// Failure is what was seen; nil if nothing was.
func (w *Watch) Failure() *Failure {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.failure
}

// Look is Failure after a look at everything that the kernel has said so far.
func (w *Watch) Look() *Failure {
	if f := w.Failure(); f != nil {
		return f
	}
	w.look(false)
	return w.Failure()
}

func (w *Watch) loop(ctx context.Context) {
	defer close(w.done)
	t := time.NewTicker(interval)
	defer t.Stop()
	var scanned time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		w.look(false)
		if w.Failure() != nil {
			return // whoever has it reads it
		}
		if time.Since(scanned) >= blockedEvery {
			w.lookAtTasks(ctx)
			scanned = time.Now()
		}
	}
}

// look reads what is new; with last, reports that are not at their end count
// too.
func (w *Watch) look(last bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := time.Now()
	if w.log != nil {
		list, lost, err := w.log.Read()
		w.out.Lost += lost
		for _, r := range list {
			w.take(w.parser.add(r, now)...)
		}
		if err != nil {
			w.blind(err)
			w.log.Close()
			w.log = nil
		}
	}
	w.take(w.parser.expire(now, last)...)
	w.take(w.trace.unmatched(w.k, w.seen, now, last)...)
}

// take keeps reports and decides over them.
func (w *Watch) take(list ...*Report) {
	for _, r := range list {
		attribute(r, w.updates)
		if !w.keep(r) || len(r.Blame) == 0 {
			continue
		}
		w.fail(func(f *Failure) { f.Reports = append(f.Reports, r) })
	}
}

// keep says whether a report is a new one.
func (w *Watch) keep(r *Report) bool {
	for _, o := range w.seen {
		if o.same(r) {
			o.Times += r.Times
			return false
		}
	}
	if len(w.seen) == reportsMax && len(r.Blame) == 0 {
		w.out.Dropped++
		return false
	}
	w.seen = append(w.seen, r)
	if len(r.Blame) == 0 {
		w.out.Reports = append(w.out.Reports, r)
	}
	return true
}

// fail notes a failure; w.mu is held.
func (w *Watch) fail(add func(*Failure)) {
	if w.failure == nil {
		w.failure = &Failure{During: "loading and transition"}
		if !w.begun.IsZero() {
			w.failure.During, w.failure.After = "probation", time.Since(w.begun)
		}
		defer close(w.failed)
	}
	add(w.failure)
	w.failure.Seen = &w.out
}

// Run is probation proper: it begins when the transitions have ended, runs the
// health checks, and returns after the time given, or with a *Failure as soon as
// something is attributed to an update. When ctx ends first, its error is in the
// chain.
func (w *Watch) Run(ctx context.Context) (*Outcome, error) {
	w.mu.Lock()
	w.begun = time.Now()
	end := w.begun.Add(w.opt.For)
	w.mu.Unlock()
	inner, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		select {
		case <-w.failed:
			cancel()
		case <-inner.Done():
		}
	}()
	for {
		last := !time.Now().Before(end)
		if bad := w.check(inner); bad != nil {
			w.mu.Lock()
			w.fail(func(f *Failure) { f.Health = bad })
			w.mu.Unlock()
		}
		if inner.Err() != nil || w.Failure() != nil || last {
			break
		}
		wait := min(w.opt.healthEvery(), time.Until(end))
		select {
		case <-inner.Done():
		case <-time.After(wait):
		}
	}
	if err := ctx.Err(); err != nil && w.Failure() == nil {
		return nil, fmt.Errorf("interrupted on probation: %w", err)
	}
	return w.verdict(ctx)
}

// Of finds the failure of a probation in an error's chain.
func Of(err error) (*Failure, bool) {
	var f *Failure
	ok := errors.As(err, &f)
	return f, ok
}
