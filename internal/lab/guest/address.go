// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"errors"
	"fmt"
	"net"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The ioctls of netdevice(7) are enough for one address and one route; x/sys
// has the requests of interfaces, but not the structure of a route.

// rtentry is struct rtentry of include/uapi/linux/route.h on 64-bit machines.
type rtentry struct {
	_       uint64
	dst     sockaddrIn
	gateway sockaddrIn
	genmask sockaddrIn
	flags   uint16
	_       [6]byte
	_       [2]uint64
	metric  int16
	_       [6]byte
	device  uintptr
	_       [3]uint64
}

// sockaddrIn is struct sockaddr_in in a struct sockaddr.
type sockaddrIn struct {
	family uint16
	port   uint16
	addr   [4]byte
	_      [8]byte
}

const (
	rtfUp      = 0x1
	rtfGateway = 0x2
)

func inet(ip string) sockaddrIn {
	s := sockaddrIn{family: unix.AF_INET}
	copy(s.addr[:], net.ParseIP(ip).To4())
	return s
}

// withSocket runs f with a socket for ioctls.
func withSocket(f func(fd int) error) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return f(fd)
}

func setFlagsUp(name string) error {
	return withSocket(func(fd int) error {
		ifr, err := unix.NewIfreq(name)
		if err != nil {
			return err
		}
		if err := unix.IoctlIfreq(fd, unix.SIOCGIFFLAGS, ifr); err != nil {
			return fmt.Errorf("reading the flags of %s: %w", name, err)
		}
		ifr.SetUint16(ifr.Uint16() | unix.IFF_UP)
		if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, ifr); err != nil {
			return fmt.Errorf("bringing %s up: %w", name, err)
		}
		return nil
	})
}

// assign gives an interface its address and the default route through it.
func assign(name string, c Network) error {
	err := withSocket(func(fd int) error {
		for _, set := range []struct {
			req uint
			ip  string
		}{{unix.SIOCSIFADDR, c.Address}, {unix.SIOCSIFNETMASK, "255.255.255.0"}} {
			ifr, err := unix.NewIfreq(name)
			if err != nil {
				return err
			}
			if err := ifr.SetInet4Addr(net.ParseIP(set.ip).To4()); err != nil {
				return err
			}
			if err := unix.IoctlIfreq(fd, set.req, ifr); err != nil {
				return fmt.Errorf("giving %s the address %s: %w", name, set.ip, err)
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	if err := setFlagsUp(name); err != nil {
		return err
	}
	if c.Gateway == "" {
		return nil
	}
	return withSocket(func(fd int) error {
		rt := rtentry{dst: inet("0.0.0.0"), gateway: inet(c.Gateway), genmask: inet("0.0.0.0"), flags: rtfUp | rtfGateway}
		_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCADDRT, uintptr(unsafe.Pointer(&rt)))
		if errno != 0 && !errors.Is(errno, unix.EEXIST) {
			return fmt.Errorf("routing through %s: %w", c.Gateway, errno)
		}
		return nil
	})
}
