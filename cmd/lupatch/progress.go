// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"

	"github.com/lupatch/lupatch/internal/journal"
	"github.com/lupatch/lupatch/kpatch"
	"github.com/lupatch/lupatch/update"
)

// progress shows how a change gets on: one line that changes on a terminal, a
// line for each thing that is new elsewhere.
type progress struct {
	w        io.Writer
	terminal bool
	last     string
}

func newProgress(w io.Writer, terminal bool) *progress {
	return &progress{w: w, terminal: terminal}
}

// doing and undoing say in words what the steps of package update are.
var (
	doing = map[string]string{
		"checked": "checking", "staged": "storing", "loading": "loading", "transition": "waiting for tasks", "probation": "on probation",
		"disabling": "disabling", "unloading": "unloading",
	}
	undoing = map[string]string{
		"staged": "removing the stored copy", "loading": "taking it back", "disabling": "enabling it again",
	}
)

func (p *progress) event(e update.Event) {
	words := doing
	switch e.State {
	case journal.Begin:
	case journal.Undo:
		words = undoing
	case journal.Done, journal.Undone, journal.Failed, journal.Stuck:
		p.clear()
		return
	}
	what, ok := words[e.Step]
	if !ok {
		return
	}
	line := fmt.Sprintf("%s: %s", e.Update, what)
	if t := e.Transition; t != nil {
		// When all that procfs shows have moved, the kernel still has to look at
		// its idle tasks, which it does once a second.
		if len(t.Remaining) > 0 {
			line += fmt.Sprintf(", %d of %d remain: %s", len(t.Remaining), t.Tasks, kpatch.Names(t.Remaining))
		}
	}
	p.show(line)
}

func (p *progress) show(line string) {
	if line == p.last {
		return
	}
	if p.terminal {
		// One line, whatever its length: wide enough for most terminals, and cut
		// off before it would wrap on the narrow ones.
		const width = 79
		if r := []rune(line); len(r) > width {
			line = string(r[:width-1]) + "…"
		}
		fmt.Fprintf(p.w, "\r\x1b[K%s", line)
	} else {
		fmt.Fprintln(p.w, line)
	}
	p.last = line
}

func (p *progress) clear() {
	if p.terminal && p.last != "" {
		fmt.Fprint(p.w, "\r\x1b[K")
	}
	p.last = ""
}
