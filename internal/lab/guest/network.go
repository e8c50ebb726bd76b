// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/lupatch/lupatch/internal/lab/wire"
)

// network gives addresses to interfaces as they come, whether at boot or after
// their driver has been loaded again.
type network struct {
	conf *Config

	mu      sync.Mutex
	changed chan struct{} // closed and replaced at every change
}

// watchNetwork subscribes to the kernel's link messages before any driver is
// loaded, so that none is missed.
func watchNetwork(conf *Config) (*network, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("watching network interfaces: %w", err)
	}
	groups := uint32(unix.RTMGRP_LINK | unix.RTMGRP_IPV4_IFADDR)
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: groups}); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("watching network interfaces: %w", err)
	}
	n := &network{conf: conf, changed: make(chan struct{})}
	if err := setFlagsUp("lo"); err != nil {
		say("network: %v", err)
	}
	go n.watch(fd)
	return n, nil
}

// watch takes a message only as a sign that something changed; the state itself
// is read afterwards, so that an overrun of the socket loses nothing.
func (n *network) watch(fd int) {
	buf := make([]byte, 64<<10)
	for {
		n.configure()
		n.mu.Lock()
		close(n.changed)
		n.changed = make(chan struct{})
		n.mu.Unlock()
		_, _, err := unix.Recvfrom(fd, buf, 0)
		if err != nil && err != unix.EINTR && err != unix.ENOBUFS {
			say("watching network interfaces: %v", err)
			return
		}
	}
}

func (n *network) configure() {
	if n.conf.ManualNetwork {
		return
	}
	for _, name := range interfaces() {
		for _, c := range n.conf.Networks {
			if mac(name) != c.MAC || address(name) != "" {
				continue
			}
			if err := assign(name, c); err != nil {
				say("network: %v", err)
			}
		}
	}
}

func interfaces() []string {
	entries, _ := os.ReadDir("/sys/class/net")
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func sysnet(name, attr string) string {
	b, _ := os.ReadFile(filepath.Join("/sys/class/net", name, attr))
	return strings.TrimSpace(string(b))
}

func mac(name string) string { return sysnet(name, "address") }

// address is the first IPv4 address of an interface.
func address(name string) string {
	ifi, err := net.InterfaceByName(name)
	if err != nil {
		return ""
	}
	addrs, _ := ifi.Addrs()
	for _, a := range addrs {
		if ip, ok := a.(*net.IPNet); ok && ip.IP.To4() != nil {
			return ip.IP.String()
		}
	}
	return ""
}

func state(name string) wire.Interface {
	return wire.Interface{Name: name, Address: address(name), Carrier: sysnet(name, "carrier") == "1"}
}

// network waits until an interface can be used.
func (a *agent) network(id uint64, req wire.Network) {
	halted, forget := a.halting(id)
	go func() {
		defer forget()
		for {
			a.net.mu.Lock()
			changed := a.net.changed
			a.net.mu.Unlock()
			if s := state(req.Name); s.Carrier && s.Address != "" {
				a.done(id, s, nil)
				return
			}
			select {
			case <-changed:
			case <-halted:
				s := state(req.Name)
				a.done(id, s, fmt.Errorf("%s is not ready: address %q, carrier %t", req.Name, s.Address, s.Carrier))
				return
			}
		}
	}()
}
