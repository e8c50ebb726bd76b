// SPDX-License-Identifier: Apache-2.0

// Package shadow replaces whole drivers in a running kernel: it speaks to the
// kernel module lupatch_shadow (kmod/), which stands in for a driver while that is
// exchanged. The steps and their order are the Live Update paper's (section 3.3);
// package update makes a transaction of them.
package shadow

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/lupatch/lupatch/internal/refuse"
)

// Module is the name of the kernel module.
const Module = "lupatch_shadow"

// DevicePath is the character device that it makes.
const DevicePath = "/dev/" + Module

// Control is the open control device.
type Control struct{ fd int }

// Open opens the control device and checks that module and program are of one
// version. fs.ErrNotExist is in the chain if the module is not loaded. It needs
// CAP_SYS_MODULE.
func Open() (*Control, error) {
	fd, err := unix.Open(DevicePath, unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("opening the shadow: %w", &fs.PathError{Op: "open", Path: DevicePath, Err: err})
	}
	c := &Control{fd}
	if _, err := c.Info(); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// Close closes it. A session that is open is then orphaned: its guardian brings the
// old driver back.
func (c *Control) Close() error { return unix.Close(c.fd) }

func (c *Control) ioctl(req uintptr, arg unsafe.Pointer) error {
	for {
		_, _, no := unix.Syscall(unix.SYS_IOCTL, uintptr(c.fd), req, uintptr(arg))
		switch no {
		case 0:
			return nil
		case unix.EINTR:
			continue
		}
		return no
	}
}

// Info asks the module about itself.
func (c *Control) Info() (*Info, error) {
	a := helloArg{abi: abiVersion}
	err := c.ioctl(reqHello, unsafe.Pointer(&a))
	if errors.Is(err, unix.EPROTO) || err == nil && (a.deviceSize != uint32(unsafe.Sizeof(deviceArg{})) || a.eventSize != uint32(unsafe.Sizeof(eventArg{}))) {
		return nil, refuse.New(refuse.ShadowMissing, Module, "the module that is loaded speaks version %d, this lupatch version %d", a.abi, abiVersion)
	}
	if err != nil {
		return nil, fmt.Errorf("asking the shadow: %w", err)
	}
	i := &Info{Slack: int(a.slack), Marked: int(a.marked), Session: a.session}
	for _, h := range a.hook[:min(a.hooks, hooksMax)] {
		i.Hooks = append(i.Hooks, Hook{Name: text(h.name[:]), Enabled: h.enabled != 0, When: hookTimes[min(int(h.when), len(hookTimes)-1)]})
	}
	return i, nil
}

// Begin opens a session for all devices of a module: nothing is done to them yet.
// With lenient a new driver may offer less than the old one. Refusals are
// DeviceUnfit, with the module's reason, and KernelBusy.
func (c *Control) Begin(module string, lenient bool) (*Session, error) {
	var a beginArg
	copy(a.module[:nameLen-1], module)
	if lenient {
		a.flags = 1
	}
	switch err := c.ioctl(reqBegin, unsafe.Pointer(&a)); {
	case errors.Is(err, unix.EBUSY):
		return nil, refuse.New(refuse.KernelBusy, module, "another driver is being replaced")
	case err != nil && text(a.reason[:]) != "":
		return nil, refuse.New(refuse.DeviceUnfit, module, "%s", text(a.reason[:]))
	case err != nil:
		return nil, fmt.Errorf("beginning to replace %s: %w", module, err)
	}
	return newSession(c, module, a.session, int(a.devices)), nil
}

// Guard makes this process the guardian of a session that another one has begun.
func (c *Control) Guard(session uint64) error {
	a := resultArg{session: session}
	if err := c.ioctl(reqGuard, unsafe.Pointer(&a)); err != nil {
		return fmt.Errorf("guarding the session: %w", err)
	}
	return nil
}

// ErrOver says that the session that was guarded has ended.
var ErrOver = errors.New("the session has ended")

// WaitOrphaned returns nil when the session that this process guards has nobody who
// drives it any more, ErrOver when it has ended.
func (c *Control) WaitOrphaned() error {
	for {
		fds := []unix.PollFd{{Fd: int32(c.fd), Events: unix.POLLPRI}}
		_, err := unix.Poll(fds, -1)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return fmt.Errorf("waiting for the session: %w", err)
		case fds[0].Revents&unix.POLLPRI != 0:
			return nil
		case fds[0].Revents&unix.POLLHUP != 0:
			return ErrOver
		}
	}
}

// TakeOver makes this process, its guardian, drive an orphaned session.
func (c *Control) TakeOver(module string, session uint64) (*Session, error) {
	a := resultArg{session: session}
	if err := c.ioctl(reqTakeover, unsafe.Pointer(&a)); err != nil {
		return nil, fmt.Errorf("taking the session over: %w", err)
	}
	n := 0
	for n < devicesMax {
		if _, err := c.device(n); err != nil {
			break
		}
		n++
	}
	return newSession(c, module, session, n), nil
}

const devicesMax = 32

func (c *Control) device(i int) (*Device, error) {
	a := deviceArg{index: uint32(i)}
	if err := c.ioctl(reqDevice, unsafe.Pointer(&a)); err != nil {
		return nil, fmt.Errorf("reading the state of device %d: %w", i, err)
	}
	return a.device(), nil
}

// Loaded says whether the module is there at all.
func Loaded() bool {
	_, err := os.Stat(DevicePath)
	return err == nil
}
