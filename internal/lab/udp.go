// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/lupatch/lupatch/internal/lab/stream"
	"github.com/lupatch/lupatch/internal/lab/wire"
)

// UDPStream is an exchange of numbered datagrams between the guest and this
// process, in both directions all the time. Unlike TCP it shows what was lost.
type UDPStream struct {
	h       *Host
	call    *call
	session *stream.UDPSession
}

// UDPStreamStats is what both ends saw.
type UDPStreamStats struct {
	Host  stream.UDPStats `json:"host"`
	Guest stream.UDPStats `json:"guest"`
}

// LostUp counts the datagrams that the guest sent and that never came here.
func (s *UDPStreamStats) LostUp() int64 { return s.Guest.Sent - s.Host.Received }

// LostDown counts those that this machine sent and that never came there.
func (s *UDPStreamStats) LostDown() int64 { return s.Host.Sent - s.Guest.Received }

// LongestGap is the longest silence that either end met.
func (s *UDPStreamStats) LongestGap() time.Duration {
	return max(s.Host.LongestGap, s.Guest.LongestGap)
}

// Err says what no network may do, if it happened: datagrams changed or made
// up, or none at all. Loss is no error.
func (s *UDPStreamStats) Err() error {
	switch {
	case s.Host.Damaged > 0:
		return fmt.Errorf("host: %d datagrams were wrong: %s", s.Host.Damaged, s.Host.LastError)
	case s.Guest.Damaged > 0:
		return fmt.Errorf("guest: %d datagrams were wrong: %s", s.Guest.Damaged, s.Guest.LastError)
	case s.LostUp() < 0 || s.LostDown() < 0:
		return fmt.Errorf("more came than was sent: lost %d up, %d down", s.LostUp(), s.LostDown())
	case s.Host.Received == 0 || s.Guest.Received == 0:
		return fmt.Errorf("nothing came: %d up, %d down", s.Host.Received, s.Guest.Received)
	}
	return nil
}

func (s *UDPStreamStats) String() string {
	return fmt.Sprintf("UDP up %d of %d (%d lost), down %d of %d (%d lost), %d duplicated, %d reordered, %d refused by the guest's kernel, longest gap %v",
		s.Host.Received, s.Guest.Sent, s.LostUp(), s.Guest.Received, s.Host.Sent, s.LostDown(),
		s.Host.Duplicated+s.Guest.Duplicated, s.Host.Reordered+s.Guest.Reordered, s.Guest.Unsent, s.LongestGap().Round(time.Millisecond))
}

// StartUDP lets the guest and this process send datagrams to each other, and
// returns when the first ones have come both ways.
func (h *Host) StartUDP(ctx context.Context, opt StreamOptions) (*UDPStream, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	const doing = "starting a UDP stream from the lab host"
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", doing, err)
	}
	k, err := h.conn.start(ctx, wire.OpStream, wire.Stream{UDP: true, Port: conn.LocalAddr().(*net.UDPAddr).Port,
		Device: opt.Device, Block: opt.Block, Interval: opt.Interval})
	if err == nil {
		if _, err = k.reply(ctx); err != nil {
			k.forget()
		}
	}
	if err != nil {
		conn.Close()
		return nil, h.explain(doing, err)
	}
	s := &UDPStream{h: h, call: k, session: stream.StartUDP(conn, netip.AddrPort{}, stream.Options{Block: opt.Block, Interval: opt.Interval})}
	select {
	case <-s.session.First():
		return s, nil
	case <-ctx.Done():
		stop, cancel := context.WithTimeout(context.Background(), requestTimeout)
		defer cancel()
		st, _ := s.Stop(stop)
		return nil, h.explain(doing, fmt.Errorf("%w: %s", errNoDatagram, st.Guest.LastError))
	}
}

var errNoDatagram = errors.New("nothing came from the guest")

// Stats is what this end sees now.
func (s *UDPStream) Stats() stream.UDPStats { return s.session.Stats() }

// Stop ends the stream in both directions and gives the statistics of both
// ends, after what is still under way has had a second to come. The error is
// about asking for them.
func (s *UDPStream) Stop(ctx context.Context) (*UDPStreamStats, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	defer s.call.forget()
	const doing = "stopping a UDP stream from the lab host"
	s.session.Halt()
	st := &UDPStreamStats{}
	if err := s.h.conn.send(ctx, &wire.Message{ID: s.call.id, Op: wire.OpHalt}); err != nil {
		st.Host = s.session.Stop(ctx)
		return st, s.h.explain(doing, err)
	}
	for {
		m, err := s.call.reply(ctx)
		if err != nil {
			st.Host = s.session.Stop(ctx)
			return st, s.h.explain(doing, err)
		}
		if m.Op == wire.OpDone {
			st.Host = s.session.Stop(ctx)
			return st, decode(m, &st.Guest)
		}
	}
}
