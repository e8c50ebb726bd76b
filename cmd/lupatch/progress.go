// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/lupatch/lupatch/internal/journal"
	"github.com/lupatch/lupatch/update"
)

// progress shows how a change gets on: a view that changes on a terminal, a line
// for each thing that is new elsewhere.
type progress struct {
	w        io.Writer
	terminal bool
	last     string
	below    int // lines drawn below the first
}

func newProgress(w io.Writer, terminal bool) *progress {
	return &progress{w: w, terminal: terminal}
}

// doing and undoing say in words what the steps of package update are.
var (
	doing = map[string]string{
		"checked": "checking", "staged": "storing", "predicted": "looking at tasks", "loading": "loading", "transition": "waiting for tasks",
		"probation": "on probation",
		"disabling": "disabling", "unloading": "unloading",
		"preloaded": "getting everything into memory", "captured": "reading the driver's state", "impersonated": "standing in for the driver",
		"disabled": "unloading the driver", "initialised": "loading the driver", "transferred": "putting settings back",
		"enabled": "waiting for the link", "installed": "installing the driver for the next boot", "finished": "ending",
	}
	undoing = map[string]string{
		"staged": "removing the stored copy", "loading": "taking it back", "disabling": "enabling it again",
		"impersonated": "starting the driver again", "disabled": "loading the driver of before", "initialised": "unloading the new driver",
		"installed": "installing the driver of before",
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
	head, more := fmt.Sprintf("%s: %s", e.Update, what), []string(nil)
	if t := e.Transition; t != nil {
		// When all that procfs shows have moved, the kernel still has to look at
		// its idle tasks, which it does once a second.
		if len(t.Remaining) > 0 {
			head += fmt.Sprintf(", %d of %d remain", len(t.Remaining), t.Tasks)
			for _, task := range t.Remaining {
				more = append(more, task.String())
			}
		}
	}
	if n := len(e.Blockers); n > 0 {
		head = fmt.Sprintf("%s: waiting for a quiet moment, %d inside", e.Update, n)
		for _, b := range e.Blockers {
			more = append(more, b.String())
		}
	}
	p.show(head, more)
}

// show draws a view of a few lines over the last one on a terminal, and prints one
// line elsewhere if it says something new.
func (p *progress) show(head string, more []string) {
	const shown = 5
	if n := len(more) - shown; n > 0 {
		more = append(slices.Clone(more[:shown]), fmt.Sprintf("%d more", n))
	}
	line := head
	if len(more) > 0 {
		line += ": " + strings.Join(more, ", ")
	}
	if line == p.last {
		return
	}
	if !p.terminal {
		fmt.Fprintln(p.w, line)
		p.last = line
		return
	}
	p.clear()
	fmt.Fprint(p.w, cut(head))
	for _, m := range more {
		fmt.Fprint(p.w, "\r\n  ", cut("  " + m)[2:])
	}
	p.last, p.below = line, len(more)
}

// cut shortens a line to what does not wrap on any usual terminal.
func cut(line string) string {
	const width = 79
	if r := []rune(line); len(r) > width {
		line = string(r[:width-1]) + "…"
	}
	return line
}

func (p *progress) clear() {
	if p.terminal && p.last != "" {
		fmt.Fprint(p.w, strings.Repeat("\r\x1b[K\x1b[1A", p.below), "\r\x1b[K")
	}
	p.last, p.below = "", 0
}
