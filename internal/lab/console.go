// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"fmt"
	"io"
	"regexp"
	"strings"
	"sync"
	"time"
)

// maxConsole bounds what is kept of a console that a guest floods: its
// beginning, and the faults of the rest.
const maxConsole = 32 << 20

// tailLines is how much of the console goes into an error; with a fault among
// the last traceLines, it begins there.
const (
	tailLines  = 25
	traceLines = 60
)

// console records what the kernel says.
type console struct {
	log io.Writer

	mu      sync.Mutex
	text    strings.Builder
	last    []string // the last complete lines
	partial []byte   // the line that is being written
	lines   int
	faults  []Fault
	changed chan struct{}
}

func newConsole(log io.Writer) *console { return &console{log: log, changed: make(chan struct{})} }

// Write never fails: a guest must not stop because a log cannot be written.
func (c *console) Write(b []byte) (int, error) {
	if c.log != nil {
		_, _ = c.log.Write(b)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, ch := range b {
		switch ch {
		case '\r', 0:
		case '\n':
			c.line(string(c.partial))
			c.partial = c.partial[:0]
		default:
			c.partial = append(c.partial, ch)
		}
	}
	close(c.changed)
	c.changed = make(chan struct{})
	return len(b), nil
}

func (c *console) line(s string) {
	c.lines++
	if c.text.Len() < maxConsole {
		c.text.WriteString(s)
		c.text.WriteByte('\n')
	}
	if c.last = append(c.last, s); len(c.last) > traceLines {
		c.last = c.last[1:]
	}
	if name, ok := findFault(s); ok {
		c.faults = append(c.faults, Fault{Pattern: name, Line: c.lines, Text: s})
	}
}

// end searches a last line that was never finished.
func (c *console) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.partial) > 0 {
		c.line(string(c.partial))
		c.partial = nil
	}
}

// String is everything so far, the unfinished line included.
func (c *console) String() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.text.String() + string(c.partial)
}

// tail is what an error shows: the end of the console, or the first fault of
// the last lines and what follows it.
func (c *console) tail() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	lines := append([]string(nil), c.last...)
	if len(c.partial) > 0 {
		lines = append(lines, string(c.partial))
	}
	from := max(0, len(lines)-tailLines)
	for _, f := range c.faults {
		if i := f.Line - 1 - (c.lines - len(c.last)); i >= 0 {
			from = min(from, max(0, i-1))
			break
		}
	}
	return strings.Join(lines[from:], "\n")
}

func (c *console) allFaults() []Fault {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]Fault(nil), c.faults...)
}

// stalled gives a channel that is closed if the console says nothing for a time
// before it matches re.
func (c *console) stalled(ctx context.Context, silence time.Duration, re *regexp.Regexp) <-chan struct{} {
	ch := make(chan struct{})
	go func() {
		for {
			c.mu.Lock()
			changed := c.changed
			c.mu.Unlock()
			if re.MatchString(c.String()) {
				return
			}
			t := time.NewTimer(silence)
			select {
			case <-changed:
				t.Stop()
			case <-t.C:
				close(ch)
				return
			case <-ctx.Done():
				t.Stop()
				return
			}
		}
	}()
	return ch
}

// wait returns when the text matches, with the match.
func (c *console) wait(ctx context.Context, gone <-chan struct{}, re *regexp.Regexp) (string, error) {
	for {
		c.mu.Lock()
		changed := c.changed
		c.mu.Unlock()
		if m := re.FindString(c.String()); m != "" {
			return m, nil
		}
		select {
		case <-changed:
		case <-gone:
			if m := re.FindString(c.String()); m != "" {
				return m, nil
			}
			return "", fmt.Errorf("waiting for %q on the console: %w", re, ErrEnded)
		case <-ctx.Done():
			return "", fmt.Errorf("waiting for %q on the console: %w", re, ctx.Err())
		}
	}
}
