// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/lupatch/lupatch/internal/lab/wire"
)

// pipeGrace is how long output is awaited after a program has ended: a
// background child may hold the pipe open for ever.
const pipeGrace = time.Second

type process struct {
	cmd      *exec.Cmd
	master   *os.File // nil without a terminal
	input    *inbox   // nil without standard input
	timedOut atomic.Bool
	// started holds output back until the program's start has been reported,
	// which whoever asked for it expects to be the first reply.
	started chan struct{}
}

// hold keeps output back until the start has been reported.
func (p *process) hold(w io.Writer) io.Writer { return &held{p.started, w} }

type held struct {
	until <-chan struct{}
	w     io.Writer
}

func (h *held) Write(b []byte) (int, error) {
	<-h.until
	return h.w.Write(b)
}

// signal reaches the program and the children that stayed in its group.
func (p *process) signal(sig syscall.Signal) error {
	return syscall.Kill(-p.cmd.Process.Pid, sig)
}

// exec starts a program and reports until it has ended.
func (a *agent) exec(id uint64, req wire.Exec) {
	if len(req.Argv) == 0 {
		a.done(id, nil, errors.New("starting a program: no name given"))
		return
	}
	p, out, err := a.prepare(id, req)
	if err == nil {
		err = p.cmd.Start()
	}
	if err != nil {
		p.cleanup()
		a.done(id, nil, fmt.Errorf("starting %s: %w", req.Argv[0], err))
		return
	}
	a.mu.Lock()
	a.procs[id] = p
	a.mu.Unlock()
	_ = a.enc.Encode(&wire.Message{ID: id, Op: wire.OpEvent, Body: wire.Body(wire.Started{PID: p.cmd.Process.Pid})})
	close(p.started)
	go a.await(id, p, req.Timeout, out)
}

// prepare sets up the program. With a terminal, out ends when its output does.
func (a *agent) prepare(id uint64, req wire.Exec) (p *process, out <-chan struct{}, err error) {
	cmd := exec.Command(req.Argv[0], req.Argv[1:]...)
	cmd.Env = append(basicEnv(), req.Env...)
	cmd.Dir = req.Dir
	p = &process{cmd: cmd, started: make(chan struct{})}
	if req.Stdin {
		p.input = newInbox()
	}
	if req.TTY {
		out, err = a.onTerminal(id, p, req.Size)
		return p, out, err
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.WaitDelay = pipeGrace
	cmd.Stdout = p.hold(&sender{a, id, wire.OpOutput})
	cmd.Stderr = p.hold(&sender{a, id, wire.OpErrors})
	if p.input != nil {
		w, err := cmd.StdinPipe()
		if err != nil {
			return p, nil, err
		}
		go p.input.copyTo(w)
	}
	return p, nil, nil
}

func (a *agent) onTerminal(id uint64, p *process, size wire.Size) (<-chan struct{}, error) {
	master, slave, err := openPTY()
	if err != nil {
		return nil, err
	}
	p.master = master
	if size.Rows > 0 {
		_ = setSize(master, size.Rows, size.Cols)
	}
	p.cmd.Stdin, p.cmd.Stdout, p.cmd.Stderr = slave, slave, slave
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	out := make(chan struct{})
	go func() {
		defer close(out)
		// Ends with EIO when the last user of the terminal is gone.
		_, _ = io.Copy(p.hold(&sender{a, id, wire.OpOutput}), master)
	}()
	if p.input != nil {
		go p.input.copyTo(struct {
			io.Writer
			io.Closer
		}{master, io.NopCloser(nil)})
	}
	return out, nil
}

func (a *agent) await(id uint64, p *process, timeout time.Duration, out <-chan struct{}) {
	if slave, ok := p.cmd.Stdin.(*os.File); ok && p.master != nil {
		slave.Close()
	}
	if timeout > 0 {
		t := time.AfterFunc(timeout, func() {
			p.timedOut.Store(true)
			_ = p.signal(syscall.SIGKILL)
		})
		defer t.Stop()
	}
	err := p.cmd.Wait()
	if out != nil {
		select {
		case <-out:
		case <-time.After(pipeGrace):
		}
	}
	a.mu.Lock()
	delete(a.procs, id)
	a.mu.Unlock()
	p.cleanup()
	var status *exec.ExitError
	if err != nil && !errors.As(err, &status) && !errors.Is(err, exec.ErrWaitDelay) {
		a.done(id, nil, fmt.Errorf("waiting for %s: %w", p.cmd.Path, err))
		return
	}
	a.done(id, exitOf(p), nil)
}

func exitOf(p *process) wire.Exit {
	exit := wire.Exit{Code: p.cmd.ProcessState.ExitCode(), TimedOut: p.timedOut.Load()}
	if ws, ok := p.cmd.ProcessState.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		exit.Signal = int(ws.Signal())
		exit.Code = 128 + exit.Signal
	}
	return exit
}

// cleanup may be called whether or not the program was started.
func (p *process) cleanup() {
	if p.input != nil {
		p.input.close()
	}
	if p.master != nil {
		p.master.Close()
	}
}

func (a *agent) proc(id uint64) *process {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.procs[id]
}

func (a *agent) stdin(m *wire.Message) {
	if p := a.proc(m.ID); p != nil && p.input != nil {
		p.input.add(m.Data, m.End)
	}
}

func (a *agent) kill(id uint64, req wire.Target) {
	p := a.proc(req.ID)
	if p == nil {
		// It has ended meanwhile: what was wanted is so.
		a.done(id, nil, nil)
		return
	}
	if err := p.signal(syscall.Signal(req.Signal)); err != nil && !errors.Is(err, syscall.ESRCH) {
		a.done(id, nil, fmt.Errorf("sending signal %d: %w", req.Signal, err))
		return
	}
	a.done(id, nil, nil)
}

func (a *agent) resize(id uint64, req wire.Target) {
	var err error
	if p := a.proc(req.ID); p != nil && p.master != nil {
		err = setSize(p.master, req.Size.Rows, req.Size.Cols)
	}
	a.done(id, nil, err)
}

// sender turns what a program writes into messages.
type sender struct {
	a  *agent
	id uint64
	op string
}

func (s *sender) Write(b []byte) (int, error) {
	if err := s.a.data(s.id, s.op, b); err != nil {
		return 0, err
	}
	return len(b), nil
}
