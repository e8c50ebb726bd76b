// SPDX-License-Identifier: Apache-2.0

package probation

import (
	"fmt"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/lupatch/lupatch/bpf"
	"github.com/lupatch/lupatch/internal/kallsyms"
	"github.com/lupatch/lupatch/kpatch"
)

// trace collects the events of the tracepoint error_report_end. They say less
// than the log, but they cannot be overwritten by it: one that no report of the
// log matches becomes a report of its own.
type trace struct {
	source *bpf.ErrorReports
	mu     sync.Mutex
	events []event
}

type event struct {
	bpf.ErrorReport
	at time.Time
}

func openTrace() (*trace, error) {
	src, err := bpf.WatchErrorReports()
	if err != nil {
		return nil, err
	}
	t := &trace{source: src}
	go t.read()
	return t, nil
}

func (t *trace) read() {
	for {
		e, err := t.source.Read()
		if err != nil {
			return // closed
		}
		const eventsMax = 1024
		t.mu.Lock()
		if len(t.events) < eventsMax {
			t.events = append(t.events, event{e, time.Now()})
		}
		t.mu.Unlock()
	}
}

func (t *trace) close() {
	if t != nil {
		t.source.Close()
	}
}

func (t *trace) pending() int {
	if t == nil {
		return 0
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.events)
}

// unmatched gives a report for each event that the log has none for, after the
// time in which the log's should be there.
func (t *trace) unmatched(k *kpatch.Kernel, seen []*Report, now time.Time, all bool) (list []*Report) {
	if t == nil {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	var due []event
	t.events = slices.DeleteFunc(t.events, func(e event) bool {
		if all || now.Sub(e.at) > quiet+2*interval {
			due = append(due, e)
			return true
		}
		return false
	})
	if len(due) == 0 {
		return nil
	}
	symbols := runningSymbols(k)
	for _, e := range due {
		r := e.report(symbols)
		if !slices.ContainsFunc(seen, func(o *Report) bool { return tells(o, r) }) {
			list = append(list, r)
		}
	}
	return list
}

// tells says whether a report of the log is what an event stands for.
func tells(o, r *Report) bool {
	if o.Source != FromLog {
		return false
	}
	if r.Function == nil || o.Function == nil {
		return o.Kind == r.Kind && o.PID == r.PID
	}
	return plain(o.Function.Function) == plain(r.Function.Function) && o.Function.Module == r.Function.Module
}

func (e event) report(symbols *kallsyms.Table) *Report {
	r := &Report{Kind: Sanitizer, Source: FromTrace, Comm: e.Comm, PID: e.TID, CPU: -1, Times: 1}
	place := fmt.Sprintf("%#x", e.ID)
	if e.Detector == bpf.DetectorWarn {
		r.Kind = Warning
		if symbols != nil {
			if s, _, ok := symbols.Containing(e.ID); ok {
				r.Function = &Frame{Frame: kpatch.Frame{Function: s.Name, Module: s.Module}}
				place = r.Function.String()
			}
		}
	}
	r.Title = "reported at " + place + ", which the kernel's log does not tell of"
	r.Lines = []string{}
	return r
}

// runningSymbols is nil if they cannot be read; the address is then all there is
// to say.
func runningSymbols(k *kpatch.Kernel) *kallsyms.Table {
	f, err := os.Open(k.Path("/proc/kallsyms"))
	if err != nil {
		return nil
	}
	defer f.Close()
	t, err := kallsyms.ReadProc(f)
	if err != nil {
		return nil
	}
	return t
}
