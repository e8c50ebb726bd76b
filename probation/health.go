// SPDX-License-Identifier: Apache-2.0

package probation

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/lupatch/lupatch/internal/refuse"
)

const (
	// DefaultHealthTimeout is how long one check may take, DefaultHealthEvery
	// how long after a round the next one begins.
	DefaultHealthTimeout = 10 * time.Second
	DefaultHealthEvery   = 5 * time.Second
	// tailMax bounds what is kept of a check's output, in bytes, tailLines in
	// lines.
	tailMax   = 8 << 10
	tailLines = 20
)

func (o *Options) healthEvery() time.Duration {
	if o.HealthEvery <= 0 {
		return DefaultHealthEvery
	}
	return o.HealthEvery
}

func (o *Options) healthTimeout() time.Duration {
	if o.HealthTimeout <= 0 {
		return DefaultHealthTimeout
	}
	return o.HealthTimeout
}

// HealthFailure is a health check that failed.
type HealthFailure struct {
	Command string `json:"command"`
	// Reason is "status 1", "signal: killed" or "no answer after 10s".
	Reason string `json:"reason"`
	// Output is the end of what it printed to both its outputs.
	Output []string `json:"output"`
}

// String names command, reason and the last line of output.
func (f *HealthFailure) String() string {
	s := fmt.Sprintf("health check %q failed: %s", f.Command, f.Reason)
	if n := len(f.Output); n > 0 {
		s += ": " + f.Output[n-1]
	}
	return s
}

// Healthy runs the health checks once, before anything is loaded. A check that
// fails already is the refusal HealthCheck.
func (o *Options) Healthy(ctx context.Context) error {
	for _, cmd := range o.Health {
		f := runCheck(ctx, cmd, o.healthTimeout())
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("interrupted in a health check: %w", err)
		}
		if f != nil {
			e := refuse.New(refuse.HealthCheck, "", "%s", f)
			e.Help = strings.Join(f.Output, "\n")
			return e
		}
	}
	return nil
}

// check runs a round of the checks; nil if all passed or ctx has ended.
func (w *Watch) check(ctx context.Context) *HealthFailure {
	for _, cmd := range w.opt.Health {
		f := runCheck(ctx, cmd, w.opt.healthTimeout())
		if ctx.Err() != nil {
			return nil
		}
		if f != nil {
			return f
		}
	}
	if len(w.opt.Health) > 0 {
		w.mu.Lock()
		w.out.Checks++
		w.mu.Unlock()
	}
	return nil
}

// runCheck runs one command by the shell, in a process group of its own that is
// killed when its time is over. It is not waited for after that: a process that
// hangs in the kernel does not die.
func runCheck(ctx context.Context, command string, limit time.Duration) *HealthFailure {
	if ctx.Err() != nil {
		return nil
	}
	var out tail
	failed := func(reason string) *HealthFailure { return &HealthFailure{command, reason, out.lines()} }
	cmd := exec.Command("/bin/sh", "-c", command)
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	// What the command leaves running may keep the pipe open.
	cmd.WaitDelay = time.Second
	if err := cmd.Start(); err != nil {
		return failed(err.Error())
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	timer := time.NewTimer(limit)
	defer timer.Stop()
	kill := func() { syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	select {
	case err := <-ended:
		var status *exec.ExitError
		switch {
		case err == nil || errors.Is(err, exec.ErrWaitDelay):
			return nil
		case errors.As(err, &status) && status.Exited():
			return failed(fmt.Sprintf("status %d", status.ExitCode()))
		}
		return failed(err.Error())
	case <-timer.C:
		kill()
		return failed(fmt.Sprintf("no answer after %s", limit))
	case <-ctx.Done():
		kill()
		return nil
	}
}

// tail keeps the end of what is written to it.
type tail struct {
	mu  sync.Mutex
	buf []byte
	cut bool
}

// Write never fails.
func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf = append(t.buf, b...)
	if n := len(t.buf) - tailMax; n > 0 {
		t.buf, t.cut = append([]byte(nil), t.buf[n:]...), true
	}
	return len(b), nil
}

func (t *tail) lines() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	b := t.buf
	if t.cut {
		_, b, _ = bytes.Cut(b, []byte{'\n'})
	}
	list := []string{}
	for l := range strings.Lines(string(b)) {
		list = append(list, strings.ToValidUTF8(strings.TrimRight(l, "\r\n"), "?"))
	}
	return list[max(0, len(list)-tailLines):]
}
