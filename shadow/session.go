// SPDX-License-Identifier: Apache-2.0

package shadow

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/lupatch/lupatch/internal/refuse"
)

// pingInterval keeps a session well below the 30 s of silence after which it counts
// as orphaned (LU_SILENCE_MAX).
const pingInterval = 5 * time.Second

// Session is one replacement: all devices of one module. Commands come from one
// goroutine at a time.
type Session struct {
	c *Control
	// Module is the name of the driver's module, Number the session's.
	Module string
	Number uint64
	// Devices is how many there are.
	Devices int

	reading sync.Mutex // of the log, by one at a time
	mu      sync.Mutex
	log     []Event
	change  chan struct{} // closed and replaced with every event
	stop    chan struct{}
	once    sync.Once
	done    sync.WaitGroup
}

func newSession(c *Control, module string, number uint64, devices int) *Session {
	s := &Session{c: c, Module: module, Number: number, Devices: devices, change: make(chan struct{}), stop: make(chan struct{})}
	s.done.Add(2)
	go s.listen()
	go s.ping()
	return s
}

// Close ends what this process does for the session, which goes on: it is to be
// closed with its Control.
func (s *Session) Close() {
	s.once.Do(func() { close(s.stop) })
	s.done.Wait()
}

// listen reads the log. It polls with a limit, as nothing else would end a poll when
// the session is closed.
func (s *Session) listen() {
	defer s.done.Done()
	const patience = 200 // ms
	for {
		select {
		case <-s.stop:
			return
		default:
		}
		fds := []unix.PollFd{{Fd: int32(s.c.fd), Events: unix.POLLIN}}
		if _, err := unix.Poll(fds, patience); err != nil && !errors.Is(err, unix.EINTR) {
			return
		}
		if fds[0].Revents&unix.POLLIN == 0 {
			if fds[0].Revents&unix.POLLHUP != 0 {
				return
			}
			continue
		}
		s.drain()
	}
}

// drain reads what the log has by now.
func (s *Session) drain() {
	s.reading.Lock()
	defer s.reading.Unlock()
	buf := make([]byte, 16*unsafe.Sizeof(eventArg{}))
	for {
		n, err := unix.Read(s.c.fd, buf)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil || n == 0 {
			return
		}
		s.mu.Lock()
		for at := 0; at+int(unsafe.Sizeof(eventArg{})) <= n; at += int(unsafe.Sizeof(eventArg{})) {
			s.log = append(s.log, (*eventArg)(unsafe.Pointer(&buf[at])).event())
		}
		close(s.change)
		s.change = make(chan struct{})
		s.mu.Unlock()
	}
}

func (s *Session) ping() {
	defer s.done.Done()
	t := time.NewTicker(pingInterval)
	defer t.Stop()
	for {
		select {
		case <-s.stop:
			return
		case <-t.C:
			var a resultArg
			_ = s.c.ioctl(reqPing, unsafe.Pointer(&a)) // the next command says what is wrong
		}
	}
}

// Log is what has been said so far; from gives what is behind the first n events.
func (s *Session) Log(n int) []Event {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Event(nil), s.log[min(n, len(s.log)):]...)
}

// ErrTakenOver says that the session is not this process' any more.
var ErrTakenOver = errors.New("another process has taken the session over")

// command runs a command of the session.
func (s *Session) command(doing string, req uintptr) error {
	var a resultArg
	err := s.c.ioctl(req, unsafe.Pointer(&a))
	if err == nil {
		return nil
	}
	if errors.Is(err, unix.EPIPE) {
		return fmt.Errorf("%s: %w", doing, ErrTakenOver)
	}
	where := s.Module
	if int(a.device) < s.Devices {
		if d, derr := s.c.device(int(a.device)); derr == nil {
			where = d.Name
		}
	}
	if reason := text(a.reason[:]); reason != "" {
		return refuse.New(refuse.DeviceUnfit, where, "%s", reason)
	}
	return fmt.Errorf("%s (%s): %w", doing, where, err)
}

// Stop has the shadow stand in for the driver of every device, which is stopped.
// It is all or none of them.
func (s *Session) Stop() error { return s.command("stopping the driver", reqStop) }

// Resume undoes Stop.
func (s *Session) Resume() error { return s.command("starting the driver again", reqResume) }

// Unbind takes the driver off its devices. If anything that is preserved points into
// its module, that is a refusal, and Rebind the way back.
func (s *Session) Unbind() error { return s.command("unbinding the driver", reqUnbind) }

// Rebind gives devices without a driver to whichever is loaded.
func (s *Session) Rebind() error { return s.command("binding the driver", reqRebind) }

// LinkPatience is a second more than the kernel holds link events back (HOLD_MAX in
// kmod/net_hold.c).
const LinkPatience = 11 * time.Second

// Finish ends the session. Every device must have a driver at work. A link that is
// still on its way back is waited for, as everybody would see it go away otherwise.
func (s *Session) Finish() error {
	ctx, cancel := context.WithTimeout(context.Background(), LinkPatience)
	defer cancel()
	_, _ = s.Wait(ctx, 0, func(st State) bool { return st != Held }, func(State) bool { return false })
	return s.command("ending the replacement", reqFinish)
}

// GiveUp unregisters devices that no driver takes.
func (s *Session) GiveUp() error { return s.command("giving up", reqGiveUp) }

// Device reads the state of device i.
func (s *Session) Device(i int) (*Device, error) { return s.c.device(i) }

// All reads the states of all devices.
func (s *Session) All() ([]*Device, error) {
	var out []*Device
	for i := range s.Devices {
		d, err := s.c.device(i)
		if err != nil {
			return nil, err
		}
		out = append(out, d)
	}
	return out, nil
}

// Lost says whether a task died in a driver's probe. Whoever cannot tell must not wait
// for the module: an error is no "no".
func (s *Session) Lost() (bool, error) {
	list, err := s.All()
	return slices.ContainsFunc(list, func(d *Device) bool { return d.State == Lost }), err
}

// Wait returns when every device is in a state that ok accepts, or with an error as
// soon as one is in a bad one; it says what the log has about that device behind its
// first from events.
func (s *Session) Wait(ctx context.Context, from int, ok, bad func(State) bool) ([]*Device, error) {
	for {
		s.mu.Lock()
		change := s.change
		s.mu.Unlock()
		list, err := s.All()
		if err != nil {
			return nil, err
		}
		waiting := ""
		for _, d := range list {
			if bad(d.State) {
				return list, fmt.Errorf("%s is %s%s", d.Name, d.State, s.because(d.Index, from))
			}
			if !ok(d.State) {
				waiting = d.Name + " is " + d.State.String()
			}
		}
		if waiting == "" {
			return list, nil
		}
		select {
		case <-change:
		case <-ctx.Done():
			return list, fmt.Errorf("%s: %w", waiting, ctx.Err())
		}
	}
}

// because lists what the log says about a device.
func (s *Session) because(i, from int) string {
	// What is said about a state was said before it was entered.
	s.drain()
	var why []string
	for _, e := range s.Log(from) {
		switch {
		case e.Device != i:
		case e.Kind == EventLost:
			why = append(why, "the new driver lacks "+e.Text)
		case e.Kind == EventPointer:
			why = append(why, "what is preserved points into the module: "+e.Text)
		case e.Kind == EventError && e.Arg < 0:
			why = append(why, fmt.Sprintf("%s (%s)", e.Text, unix.Errno(-e.Arg)))
		case e.Kind == EventError || e.Kind == EventDied:
			why = append(why, e.Text)
		}
	}
	if len(why) == 0 {
		return ""
	}
	return ": " + strings.Join(why, "; ")
}
