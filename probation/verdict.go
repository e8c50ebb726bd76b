// SPDX-License-Identifier: Apache-2.0

package probation

import (
	"context"
	"fmt"
	"time"

	"github.com/lupatch/lupatch/kpatch"
)

// verdict takes the last looks.
func (w *Watch) verdict(ctx context.Context) (*Outcome, error) {
	w.stop()
	<-w.done
	w.settle(ctx)
	w.lastLookAtTasks(ctx)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.out.Watched = time.Since(w.begun)
	w.take(w.uncounted()...)
	if now, err := w.k.Tainted(); err == nil {
		w.out.Taint = (now &^ w.taint &^ kpatch.TaintOfLoading).Flags()
	}
	if w.failure != nil {
		return nil, w.failure
	}
	out := w.out
	return &out, nil
}

// settle waits for the end of reports that the kernel is still printing.
func (w *Watch) settle(ctx context.Context) {
	t := time.NewTicker(interval)
	defer t.Stop()
	for end := time.Now().Add(2 * quiet); ; {
		w.look(false)
		w.mu.Lock()
		open := len(w.parser.open) + w.trace.pending()
		w.mu.Unlock()
		if open == 0 {
			return
		}
		if ctx.Err() != nil || time.Now().After(end) {
			w.look(true)
			return
		}
		<-t.C
	}
}

// uncounted holds the kernel's counters against the reports that were read.
func (w *Watch) uncounted() []*Report {
	now := w.k.Counts()
	if !now.Known || !w.count.Known {
		return nil
	}
	var oopses, warnings uint64
	for _, r := range w.seen {
		if r.Source != FromLog && r.Source != FromTrace {
			continue
		}
		switch r.Kind {
		case Oops, Bug, Protection:
			oopses += uint64(r.Times)
		case Warning:
			warnings += uint64(r.Times)
		default:
			// They may count as either, or as none.
			oopses, warnings = oopses+uint64(r.Times), warnings+uint64(r.Times)
		}
	}
	var list []*Report
	add := func(what string, counted, read uint64) {
		if counted > read {
			list = append(list, &Report{Kind: Uncounted, Source: FromCount, CPU: -1, Times: 1, Lines: []string{},
				Title: fmt.Sprintf("the kernel counted %d %s, %d of them were read", counted, what, read)})
		}
	}
	add("Oopses", now.Oopses-w.count.Oopses, oopses)
	add("warnings", now.Warnings-w.count.Warnings, warnings)
	return list
}
