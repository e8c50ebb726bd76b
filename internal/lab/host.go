// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"sync"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/lupatch/lupatch/internal/lab/wire"
)

// Deadlines for what takes no time by itself.
const (
	// requestTimeout is for requests that only wait for the agent.
	requestTimeout = 30 * time.Second
	// powerOffTimeout is for the kernel's way down.
	powerOffTimeout = 20 * time.Second
)

// Error is a lab host that did not do what it should. Error() ends with the
// last lines of the console; Console has all of it.
type Error struct {
	Doing   string
	Err     error
	Tail    string
	Console string
}

func (e *Error) Unwrap() error { return e.Err }

func (e *Error) Error() string {
	if e.Tail == "" {
		return fmt.Sprintf("%s: %v (the console is empty)", e.Doing, e.Err)
	}
	return fmt.Sprintf("%s: %v; the console ends with:\n%s", e.Doing, e.Err, e.Tail)
}

// ErrEnded says that the lab host is not running any more.
var ErrEnded = errors.New("the lab host has ended")

// ErrPanic says that its kernel panicked. It wraps ErrEnded.
var ErrPanic = fmt.Errorf("its kernel panicked: %w", ErrEnded)

// errStalled says that the kernel stopped speaking before it ran anything of
// ours. It has been seen once in some 300 boots under emulation on a busy
// machine, in the middle of the kernel's own initialisation, with QEMU 7.2 and
// two processors. Nothing of a lab host has begun then, so that booting once
// more hides nothing.
var errStalled = errors.New("its kernel stood still before its first process")

// earlyStall is how long a kernel may say nothing before its first process; on
// two busy processors half a second is usual and five are rare.
var earlyStall = 30 * time.Second

// initStarted is the kernel's last word before its first process.
var initStarted = regexp.MustCompile(`Run /\S+ as init process`)

// Host is a running lab host. Its methods may be used by several goroutines.
type Host struct {
	// Release is the kernel's own name for itself.
	Release string
	// Accel is how it is run.
	Accel Accel
	// BootTime is the time from the start of QEMU to the agent's answer.
	BootTime time.Duration
	// Restarted says that the first attempt stood still, see errStalled.
	Restarted bool
	// Loaded are the modules that were asked for at boot.
	Loaded []string

	conf    Config
	emu     *emulator
	m       *machine
	conn    *conn
	console *console
	cancel  context.CancelFunc
	tmp     string
	once    sync.Once
}

// Boot starts a lab host and waits until its agent answers. The host lives
// until Close or Shutdown is called or ctx ends; a leaked one dies with this
// process. Errors of the guest are *Error; a kernel that is not to be had is a
// *refuse.Error with SourceUnavailable.
func Boot(ctx context.Context, conf Config) (*Host, error) {
	conf.setDefaults()
	if err := conf.check(); err != nil {
		return nil, err
	}
	if err := conf.prepare(ctx); err != nil {
		return nil, err
	}
	tmp, err := os.MkdirTemp("", "lupatch-lab-")
	if err != nil {
		return nil, fmt.Errorf("making a folder for the lab host: %w", err)
	}
	h := &Host{conf: conf, tmp: tmp, console: newConsole(conf.ConsoleLog)}
	if err := h.boot(ctx); err != nil {
		h.Close()
		return nil, err
	}
	return h, nil
}

// Emulator is the path of the QEMU that runs the host.
func (h *Host) Emulator() string { return h.emu.path }

func (h *Host) boot(ctx context.Context) error {
	initrd := filepath.Join(h.tmp, "initramfs")
	if err := h.writeInitramfs(ctx, initrd); err != nil {
		return err
	}
	images, err := h.diskImages()
	if err != nil {
		return err
	}
	if h.conf.firmware, err = h.conf.prepareFirmware(ctx, h.tmp); err != nil {
		return err
	}
	h.Accel = chooseAccel(ctx, &h.conf, initrd)
	h.emu, err = findEmulator(ctx, &h.conf, h.Accel)
	if err != nil {
		return err
	}
	life, cancel := context.WithCancel(ctx)
	h.cancel = cancel
	args := machineArgs(&h.conf, h.Accel, h.emu.coherent, initrd, images)
	err = h.start(ctx, life, args)
	if errors.Is(err, errStalled) {
		logrus.Warnf("lab: %s stood still before its first process; booting it once more", h.conf.Kernel.Release)
		h.m.kill()
		h.m.agent.Close()
		h.console, h.Restarted = newConsole(h.conf.ConsoleLog), true
		err = h.start(ctx, life, args)
	}
	if err != nil {
		return h.explain("booting the lab host", err)
	}
	logrus.Debugf("lab: %s answered after %v", h.Release, h.BootTime.Round(time.Millisecond))
	// QEMU has it in memory by now.
	return os.Remove(initrd)
}

// start runs QEMU until the agent answers.
func (h *Host) start(ctx, life context.Context, args []string) error {
	begin := time.Now()
	m, err := startMachine(life, h.emu, args, h.console)
	if err != nil {
		return err
	}
	h.m, h.conn = m, newConn(m.agent)
	wait, stop := context.WithTimeout(ctx, h.conf.BootTimeout)
	defer stop()
	err = h.awaitHello(wait)
	if err == nil && h.conf.Systemd {
		err = h.awaitSystemd(wait)
	}
	h.BootTime = time.Since(begin)
	return err
}

// awaitSystemd waits until it has started what it starts at boot. Units of packages that
// a lab host lacks may fail: that it is "degraded" says nothing.
func (h *Host) awaitSystemd(ctx context.Context) error {
	r, err := h.Sh(ctx, `until [ -S /run/systemd/private ]; do sleep 0.05; done
systemctl is-system-running --wait >/dev/null
systemctl start systemd-logind`)
	if err == nil && r.Code != 0 {
		err = fmt.Errorf("starting logind: status %d: %s", r.Code, bytes.TrimSpace(r.Stderr))
	}
	return err
}

func (h *Host) writeInitramfs(ctx context.Context, path string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("making the lab host's file system: %w", err)
	}
	if err := writeInitramfs(ctx, f, &h.conf); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}

func (h *Host) diskImages() ([]string, error) {
	var images []string
	for i, d := range h.conf.Disks {
		path := d.Image
		if path == "" {
			path = filepath.Join(h.tmp, fmt.Sprintf("disk%d", i))
			f, err := os.Create(path)
			if err != nil {
				return nil, fmt.Errorf("making a disk image: %w", err)
			}
			err = f.Truncate(d.Size)
			f.Close()
			if err != nil {
				return nil, fmt.Errorf("making a disk image: %w", err)
			}
		} else if _, err := os.Stat(path); err != nil {
			return nil, fmt.Errorf("looking at a disk image: %w", err)
		}
		images = append(images, path)
	}
	return images, nil
}

func (h *Host) awaitHello(ctx context.Context) error {
	if h.conf.Progress != nil {
		h.conf.Progress("booting "+h.conf.Kernel.Release, 0, 0)
	}
	var m *wire.Message
	select {
	case m = <-h.conn.hello:
	case <-h.m.done:
		return ErrEnded
	case <-h.console.stalled(ctx, earlyStall, initStarted):
		return errStalled
	case <-ctx.Done():
		return ctx.Err()
	}
	var hello wire.Hello
	if err := decode(m, &hello); err != nil {
		return err
	}
	switch {
	case hello.Version != wire.Version:
		return fmt.Errorf("its agent speaks version %d of the protocol, not %d: the program it was started with is another one", hello.Version, wire.Version)
	case hello.Release != h.conf.Kernel.Release:
		return fmt.Errorf("its kernel says that it is %s, not %s", hello.Release, h.conf.Kernel.Release)
	case len(hello.Failed) > 0:
		return fmt.Errorf("it could not load %q", hello.Failed)
	}
	h.Release, h.Loaded = hello.Release, hello.Loaded
	return nil
}

// explain turns the failure of a request into an Error, if the guest is at
// fault. A guest that is on its way down is awaited first: its console says why.
func (h *Host) explain(doing string, err error) error {
	var remote *RemoteError
	if err == nil {
		return nil
	}
	if errors.As(err, &remote) || h.m == nil {
		return fmt.Errorf("%s: %w", doing, err)
	}
	if errors.Is(err, errClosed) || errors.Is(err, os.ErrClosed) || errors.Is(err, ErrEnded) || isBrokenPipe(err) {
		select {
		case <-h.m.done:
			err = ErrEnded
		case <-time.After(powerOffTimeout):
		}
	}
	for _, f := range h.console.allFaults() {
		if f.Pattern == "panic" {
			err = ErrPanic
		}
	}
	e := &Error{Doing: doing, Err: err, Tail: h.console.tail(), Console: h.console.String()}
	select {
	case <-h.m.done:
		if s := h.m.complaint(); s != "" {
			e.Doing += s
		}
	default:
	}
	return e
}

// Console is all that the kernel has said.
func (h *Host) Console() string { return h.console.String() }

// Faults are the lines of the console that match FaultPatterns.
func (h *Host) Faults() []Fault { return h.console.allFaults() }

// ConsoleFaults are the same as text.
func (h *Host) ConsoleFaults() []string {
	var out []string
	for _, f := range h.Faults() {
		out = append(out, f.String())
	}
	return out
}

// WaitConsole returns as soon as the console matches re, with the match.
func (h *Host) WaitConsole(ctx context.Context, re *regexp.Regexp) (string, error) {
	m, err := h.console.wait(ctx, h.m.done, re)
	if err != nil {
		return "", h.explain("watching the lab host", err)
	}
	return m, nil
}

// Done is closed when the host has ended, whoever ended it.
func (h *Host) Done() <-chan struct{} { return h.m.done }

// PID is the process id of QEMU.
func (h *Host) PID() int { return h.m.cmd.Process.Pid }

// Ping asks the agent for an answer.
func (h *Host) Ping(ctx context.Context) error {
	return h.request(ctx, "asking the lab host for an answer", wire.OpPing, nil, nil)
}

// request is for what the agent answers at once.
func (h *Host) request(ctx context.Context, doing, op string, body, result any) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	return h.explain(doing, h.conn.request(ctx, op, body, result))
}

// Shutdown powers the guest off and waits until it has ended; if it does not,
// it is killed, which is an error.
func (h *Host) Shutdown(ctx context.Context) error {
	defer h.Close()
	ctx, cancel := context.WithTimeout(ctx, powerOffTimeout)
	defer cancel()
	if err := h.conn.request(ctx, wire.OpPowerOff, nil, nil); err != nil && !errors.Is(err, errClosed) {
		return h.explain("powering the lab host off", err)
	}
	select {
	case <-h.m.done:
		return nil
	case <-ctx.Done():
		return h.explain("powering the lab host off", ctx.Err())
	}
}

// Close ends the host at once and removes what it left. It may be called often.
func (h *Host) Close() {
	h.once.Do(func() {
		if h.m != nil {
			h.m.kill()
			h.m.agent.Close()
		}
		if h.cancel != nil {
			h.cancel()
		}
		os.RemoveAll(h.tmp)
	})
}
