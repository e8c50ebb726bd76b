// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/lupatch/lupatch/internal/lab/stream"
	"github.com/lupatch/lupatch/internal/lab/wire"
)

const (
	// hostAddress is how QEMU's user network calls the machine it runs on; a
	// card's own network is 10.0.N.0/24, and the machine is its second address.
	hostAddress = "10.0.2.2"
	// dialTimeout: the peer is on the same machine.
	dialTimeout = 20 * time.Second
	// drainTimeout is how long the rest of a stopped stream may take: longer
	// than TCP needs to notice that an interface works again.
	drainTimeout = 60 * time.Second
)

// stream connects and exchanges blocks until OpHalt, or until the connection
// fails. OpEvent says that it is connected.
func (a *agent) stream(id uint64, req wire.Stream) {
	halted, forget := a.halting(id)
	go func() {
		defer forget()
		peer, err := peerOf(req)
		if err != nil {
			a.done(id, nil, fmt.Errorf("connecting the stream: %w", err))
			return
		}
		opt := stream.Options{Block: req.Block, Interval: req.Interval}
		if req.UDP {
			a.udp(id, req, peer, opt, halted)
			return
		}
		d := net.Dialer{Timeout: dialTimeout, Control: boundTo(req.Device)}
		conn, err := d.Dial("tcp4", peer.String())
		if err != nil {
			a.done(id, nil, fmt.Errorf("connecting the stream: %w", err))
			return
		}
		s := stream.Start(conn, opt)
		_ = a.enc.Encode(&wire.Message{ID: id, Op: wire.OpEvent})
		select {
		case <-halted:
		case <-s.Done():
		}
		ctx, cancel := context.WithTimeout(context.Background(), drainTimeout)
		defer cancel()
		a.done(id, s.Stop(ctx), nil)
	}()
}

// udp exchanges datagrams until OpHalt.
func (a *agent) udp(id uint64, req wire.Stream, peer netip.AddrPort, opt stream.Options, halted <-chan struct{}) {
	l := net.ListenConfig{Control: boundTo(req.Device)}
	conn, err := l.ListenPacket(context.Background(), "udp4", ":0")
	if err != nil {
		a.done(id, nil, fmt.Errorf("opening the stream's socket: %w", err))
		return
	}
	s := stream.StartUDP(conn.(*net.UDPConn), peer, opt)
	_ = a.enc.Encode(&wire.Message{ID: id, Op: wire.OpEvent})
	<-halted
	ctx, cancel := context.WithTimeout(context.Background(), drainTimeout)
	defer cancel()
	a.done(id, s.Stop(ctx), nil)
}

// peerOf is the machine that runs QEMU as seen from an interface's network.
func peerOf(req wire.Stream) (netip.AddrPort, error) {
	peer := hostAddress
	if req.Device != "" {
		own, err := netip.ParseAddr(address(req.Device))
		if err != nil {
			return netip.AddrPort{}, fmt.Errorf("%s has no address", req.Device)
		}
		b := own.As4()
		b[3] = 2
		peer = netip.AddrFrom4(b).String()
	}
	addr, err := netip.ParseAddr(peer)
	return netip.AddrPortFrom(addr, uint16(req.Port)), err
}

// boundTo lets a socket use one interface only (socket(7), SO_BINDTODEVICE).
func boundTo(device string) func(network, address string, c syscall.RawConn) error {
	if device == "" {
		return nil
	}
	return func(_, _ string, c syscall.RawConn) (err error) {
		if e := c.Control(func(fd uintptr) { err = unix.BindToDevice(int(fd), device) }); e != nil {
			return e
		}
		return err
	}
}
