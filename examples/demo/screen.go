// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/term"

	"github.com/lupatch/lupatch/internal/build"
	"github.com/lupatch/lupatch/internal/lab"
)

// screen prints what happens: with colour and a moving progress line on a
// terminal, as plain lines elsewhere.
type screen struct {
	mu      sync.Mutex
	w       io.Writer
	tty     bool
	started time.Time
	stage   string
	moving  bool
}

func newScreen(f *os.File) *screen {
	return &screen{w: f, tty: term.IsTerminal(int(f.Fd())) && os.Getenv("NO_COLOR") == "", started: time.Now()}
}

func (s *screen) print(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.moving {
		fmt.Fprint(s.w, "\r\033[K")
		s.moving = false
	}
	fmt.Fprintf(s.w, format, args...)
}

func (s *screen) title(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if s.tty {
		text = "\033[1m" + text + "\033[0m"
	}
	s.print("\n[%3.0f s] %s\n", time.Since(s.started).Seconds(), text)
}

func (s *screen) line(format string, args ...any) { s.print("  "+format+"\n", args...) }

// progress shows what a build does; elsewhere than on a terminal only each
// stage's name.
func (s *screen) progress(stage string, done, total int64) {
	if s.tty {
		text := stage
		if total > 0 {
			text = fmt.Sprintf("%s %d%%", stage, done*100/total)
		}
		s.mu.Lock()
		fmt.Fprintf(s.w, "\r\033[K  %s", text)
		s.moving = true
		s.mu.Unlock()
		return
	}
	s.mu.Lock()
	fresh := s.stage != stage
	s.stage = stage
	s.mu.Unlock()
	if fresh {
		s.line("… %s", stage)
	}
}

func (s *screen) built(name string, r *build.Result) {
	var parts []string
	var sum time.Duration
	for _, st := range r.Stages {
		sum += st.Took
		parts = append(parts, fmt.Sprintf("%s %.1f", st.Name, st.Took.Seconds()))
	}
	s.line("built %s in %.1f s (%s)", name, sum.Seconds(), strings.Join(parts, ", "))
}

// output shows a command of the guest and what it printed.
func (s *screen) output(cmd, out string) {
	s.print("  guest# %s\n", cmd)
	for _, l := range strings.Split(strings.TrimRight(out, "\n"), "\n") {
		if l != "" {
			s.print("    %s\n", l)
		}
	}
}

// command runs a command of the guest, shows it and fails if it does.
func (s *screen) command(ctx context.Context, h *lab.Host, argv ...string) error {
	r, err := h.Run(ctx, lab.Cmd{Argv: argv, Timeout: 3 * time.Minute})
	if err != nil {
		return err
	}
	s.output(strings.Join(argv, " "), string(r.Stderr)+string(r.Stdout))
	if r.Code != 0 {
		return fmt.Errorf("%s ended with status %d", strings.Join(argv, " "), r.Code)
	}
	return nil
}
