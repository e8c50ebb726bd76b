// SPDX-License-Identifier: Apache-2.0

package probation

import (
	"fmt"
	"strings"
	"time"
)

// Failure is the error of an update that did not pass its probation, with the
// evidence.
type Failure struct {
	// During is "probation" or "loading and transition"; After is the time since
	// the end of the transition.
	During string        `json:"during"`
	After  time.Duration `json:"after_ns"`
	// Reports are those that are attributed to an update.
	Reports []*Report `json:"reports,omitempty"`
	// Health is a check that failed.
	Health *HealthFailure `json:"health_check,omitempty"`
	// Seen is everything else.
	Seen *Outcome `json:"seen,omitempty"`
}

// Error is one line: what was seen, and why it is attributed to the update.
func (f *Failure) Error() string {
	s := "probation failed"
	if f.During != "probation" {
		s += " (during " + f.During + ")"
	}
	switch {
	case len(f.Reports) > 0:
		r := f.Reports[0]
		s += ": " + r.String()
		if len(r.Blame) > 0 {
			s += "; " + r.Blame[0].Why
		}
		if n := len(f.Reports) - 1; n > 0 {
			s += fmt.Sprintf(" (and %d more)", n)
		}
	case f.Health != nil:
		s += ": " + f.Health.String()
	}
	return s
}

// Text is the whole evidence for a person, one line each.
func (f *Failure) Text() []string {
	var out []string
	for _, r := range f.Reports {
		out = append(out, r.Text()...)
	}
	if h := f.Health; h != nil {
		out = append(out, h.String())
		for _, l := range h.Output {
			out = append(out, "  | "+l)
		}
	}
	if f.Seen != nil {
		out = append(out, f.Seen.Text()...)
	}
	return out
}

// Text is a report for a person: what it is, whom it is attributed to, and the
// kernel's own lines.
func (r *Report) Text() []string {
	head := r.String()
	if r.Times > 1 {
		head += fmt.Sprintf(" (%d times)", r.Times)
	}
	out := []string{head}
	for _, b := range r.Blame {
		out = append(out, fmt.Sprintf("  attributed to %s: %s", b.Update, b.Why))
	}
	for _, l := range r.Lines {
		out = append(out, "  | "+strings.TrimRight(l, " "))
	}
	return out
}

// Text says what else was seen, and what could not be.
func (o *Outcome) Text() []string {
	var out []string
	for _, r := range o.Reports {
		t := r.Text()
		t[0] = "also seen, not attributed to the update: " + t[0]
		out = append(out, t...)
	}
	for _, t := range o.Taint {
		out = append(out, fmt.Sprintf("the kernel is tainted %s since: %s", t.Letter, t.Meaning))
	}
	if o.Lost > 0 {
		out = append(out, fmt.Sprintf("%d messages of the kernel were overwritten before they could be read", o.Lost))
	}
	if o.Dropped > 0 {
		out = append(out, fmt.Sprintf("%d further reports were not kept", o.Dropped))
	}
	for _, b := range o.Blind {
		out = append(out, "not watched: "+b)
	}
	return out
}
