// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"syscall"
	"time"

	"github.com/lupatch/lupatch/internal/lab/wire"
)

const (
	// DefaultTimeout bounds a command that has no timeout of its own.
	DefaultTimeout = 60 * time.Second
	// agentGrace is what the agent is given to report a command that it has
	// killed at its timeout.
	agentGrace = 15 * time.Second
)

// Cmd is a command for the guest.
type Cmd struct {
	Argv []string
	Env  []string // added to PATH, HOME and the like
	Dir  string
	// Stdin is sent as it comes; nil means an empty input.
	Stdin io.Reader
	// Stdout and Stderr get the output as it comes, if not nil; otherwise it is
	// in the Result.
	Stdout, Stderr io.Writer
	// Timeout kills the command and its group; 0 means DefaultTimeout, a
	// negative one never.
	Timeout time.Duration
	// TTY runs it on a terminal of Rows and Cols; Stderr is then unused.
	TTY        bool
	Rows, Cols uint16
}

// Result is how a command ended.
type Result struct {
	// Code is the exit status; 128 plus the signal if one killed it.
	Code   int
	Signal int
	Stdout []byte
	Stderr []byte
}

// TimeoutError is a command that was killed at its timeout. It matches
// context.DeadlineExceeded.
type TimeoutError struct {
	Argv    []string
	Timeout time.Duration
}

func (e *TimeoutError) Error() string {
	return fmt.Sprintf("running %q in the lab host: killed after %v", e.Argv, e.Timeout)
}

// Is makes errors.Is(err, context.DeadlineExceeded) true.
func (e *TimeoutError) Is(target error) bool { return target == context.DeadlineExceeded }

// Process is a command that runs in the guest.
type Process struct {
	PID int // in the guest

	h       *Host
	cmd     Cmd
	call    *call
	done    chan struct{}
	result  *Result
	err     error
	mu      sync.Mutex
	out     bytes.Buffer
	errs    bytes.Buffer
	timeout time.Duration
}

// Exec runs a command to its end. A status other than 0 is no error; a command
// that cannot be started, a timeout (*TimeoutError) and a guest that fails are.
// If ctx ends first the command is killed.
func (h *Host) Exec(ctx context.Context, argv ...string) (*Result, error) {
	return h.Run(ctx, Cmd{Argv: argv})
}

// Sh runs a script with the guest's shell.
func (h *Host) Sh(ctx context.Context, script string) (*Result, error) {
	return h.Exec(ctx, "sh", "-c", script)
}

// Run is Exec with everything that a Cmd can say.
func (h *Host) Run(ctx context.Context, cmd Cmd) (*Result, error) {
	p, err := h.Start(ctx, cmd)
	if err != nil {
		return nil, err
	}
	return p.Wait(ctx)
}

// Start runs a command in the background.
func (h *Host) Start(ctx context.Context, cmd Cmd) (*Process, error) {
	if cmd.Timeout == 0 {
		cmd.Timeout = DefaultTimeout
	}
	p := &Process{h: h, cmd: cmd, done: make(chan struct{}), timeout: max(0, cmd.Timeout)}
	start, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	doing := fmt.Sprintf("running %q in the lab host", cmd.Argv)
	call, err := h.conn.start(start, wire.OpExec, wire.Exec{
		Argv: cmd.Argv, Env: cmd.Env, Dir: cmd.Dir, Timeout: p.timeout, Stdin: cmd.Stdin != nil,
		TTY: cmd.TTY, Size: wire.Size{Rows: cmd.Rows, Cols: cmd.Cols},
	})
	if err != nil {
		return nil, h.explain(doing, err)
	}
	p.call = call
	m, err := call.reply(start)
	var started wire.Started
	if err == nil {
		err = decode(m, &started)
	}
	if err != nil {
		call.forget()
		return nil, h.explain(doing, err)
	}
	p.PID = started.PID
	go p.follow()
	if cmd.Stdin != nil {
		go p.feed()
	}
	return p, nil
}

// follow collects the output until the command has ended. It outlives the
// context of Start: only the end of the command or of the guest ends it.
func (p *Process) follow() {
	defer close(p.done)
	defer p.call.forget()
	ctx := context.Background()
	if p.timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, p.timeout+agentGrace)
		defer cancel()
	}
	for {
		m, err := p.call.reply(ctx)
		if err != nil {
			p.err = p.h.explain(fmt.Sprintf("running %q in the lab host", p.cmd.Argv), err)
			return
		}
		switch m.Op {
		case wire.OpOutput:
			p.collect(p.cmd.Stdout, &p.out, m.Data)
		case wire.OpErrors:
			p.collect(p.cmd.Stderr, &p.errs, m.Data)
		case wire.OpDone:
			p.finish(m)
			return
		}
	}
}

func (p *Process) collect(w io.Writer, buf *bytes.Buffer, data []byte) {
	if w != nil {
		// A reader that went away must not hang the guest's command.
		_, _ = w.Write(data)
		return
	}
	p.mu.Lock()
	buf.Write(data)
	p.mu.Unlock()
}

func (p *Process) finish(m *wire.Message) {
	var exit wire.Exit
	if p.err = decode(m, &exit); p.err != nil {
		return
	}
	p.mu.Lock()
	p.result = &Result{Code: exit.Code, Signal: exit.Signal, Stdout: p.out.Bytes(), Stderr: p.errs.Bytes()}
	p.mu.Unlock()
	if exit.TimedOut {
		p.err = &TimeoutError{Argv: p.cmd.Argv, Timeout: p.timeout}
	}
}

// feed sends the standard input.
func (p *Process) feed() {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		<-p.done
		cancel()
	}()
	buf := make([]byte, wire.ChunkSize)
	for {
		n, err := p.cmd.Stdin.Read(buf)
		m := &wire.Message{ID: p.call.id, Op: wire.OpStdin, Data: buf[:n], End: err != nil}
		if p.h.conn.send(ctx, m) != nil || err != nil {
			return
		}
	}
}

// Wait waits for the end of the command. With a *TimeoutError there is a Result
// too. If ctx ends first the command is killed.
func (p *Process) Wait(ctx context.Context) (*Result, error) {
	select {
	case <-p.done:
		return p.result, p.err
	case <-ctx.Done():
	}
	kill, cancel := context.WithTimeout(context.Background(), agentGrace)
	defer cancel()
	_ = p.Kill(kill, syscall.SIGKILL)
	select {
	case <-p.done:
	case <-kill.Done():
	}
	return nil, fmt.Errorf("running %q in the lab host: %w", p.cmd.Argv, ctx.Err())
}

// Done is closed when the command has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Output is what the command has written so far, if its Cmd had no writers.
func (p *Process) Output() (stdout, stderr []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return bytes.Clone(p.out.Bytes()), bytes.Clone(p.errs.Bytes())
}

// Kill sends a signal to the command and its group. A command that has ended is
// no error.
func (p *Process) Kill(ctx context.Context, sig syscall.Signal) error {
	return p.h.request(ctx, fmt.Sprintf("killing %q", p.cmd.Argv), wire.OpKill, wire.Target{ID: p.call.id, Signal: int(sig)}, nil)
}

// Resize tells a command on a terminal about the terminal's new size.
func (p *Process) Resize(ctx context.Context, rows, cols uint16) error {
	return p.h.request(ctx, "resizing a terminal", wire.OpResize, wire.Target{ID: p.call.id, Size: wire.Size{Rows: rows, Cols: cols}}, nil)
}

func isBrokenPipe(err error) bool {
	return errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET)
}
