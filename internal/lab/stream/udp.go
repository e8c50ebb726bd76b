// SPDX-License-Identifier: Apache-2.0

package stream

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"
)

// UDPDefaultBlock is the payload of a datagram; with DefaultInterval some 200
// datagrams, 100 kB, a second each way.
const UDPDefaultBlock = 512

// maxDatagram is what fits into one Ethernet frame.
const maxDatagram = 1472

// udpQuiet is how long nothing may come before what is still missing counts as
// lost: QEMU keeps datagrams for a card that does not take them at the moment.
const udpQuiet = time.Second

// maxDatagrams bounds what a damaged sequence number can make the receiver
// allocate; a session of a week has fewer.
const maxDatagrams = 1 << 28

// maxReadErrors in a row end the receiving: an interface that goes away is one.
const maxReadErrors = 1000

// UDPStats is what one end saw. What was lost is the difference of one end's
// Sent and the other end's Received.
type UDPStats struct {
	Sent       int64 `json:"sent"`
	Received   int64 `json:"received"`   // each counted once
	Duplicated int64 `json:"duplicated"` // came again
	Reordered  int64 `json:"reordered"`  // came after a later one
	Damaged    int64 `json:"damaged"`    // wrong checksum or form
	// Unsent are those that the kernel did not take, and LastError why.
	Unsent    int64  `json:"unsent"`
	LastError string `json:"last_error,omitempty"`
	// LongestGap is the longest time between two datagrams received, the one
	// that lasts now included.
	LongestGap time.Duration `json:"longest_gap_ns"`
	Duration   time.Duration `json:"duration_ns"`
}

// UDPSession is one end of an exchange of numbered, checked datagrams.
type UDPSession struct {
	conn  *net.UDPConn
	opt   Options
	begin time.Time

	stop     chan struct{} // closed: send no more
	stopOnce sync.Once
	first    chan struct{} // closed at the first datagram
	sent     chan struct{} // closed when sending is over
	received chan struct{} // closed when receiving is over

	mu    sync.Mutex
	peer  netip.AddrPort
	stats UDPStats
	seen  []uint64 // a bit a sequence number
	next  uint64   // one more than the highest sequence number
	last  time.Time
	// halted: gaps count no more; over: nothing does.
	halted, over bool
}

// StartUDP begins to send and to receive on conn, which the session owns from
// now. Without a peer the sender of the first datagram becomes it.
func StartUDP(conn *net.UDPConn, peer netip.AddrPort, opt Options) *UDPSession {
	if opt.Block <= 0 || opt.Block > maxDatagram-headerSize {
		opt.Block = UDPDefaultBlock
	}
	if opt.Interval <= 0 {
		opt.Interval = DefaultInterval
	}
	now := time.Now()
	s := &UDPSession{conn: conn, opt: opt, peer: peer, begin: now, last: now, stop: make(chan struct{}),
		first: make(chan struct{}), sent: make(chan struct{}), received: make(chan struct{})}
	go func() { defer close(s.sent); s.send() }()
	go func() { defer close(s.received); s.receive() }()
	return s
}

// First is closed when something has come from the other end.
func (s *UDPSession) First() <-chan struct{} { return s.first }

// Halt lets this end send no more. It does not wait. From now on silence is no
// gap: the other end is about to be halted as well.
func (s *UDPSession) Halt() {
	s.stopOnce.Do(func() {
		s.mu.Lock()
		s.stats.LongestGap, s.halted = max(s.stats.LongestGap, time.Since(s.last)), true
		s.mu.Unlock()
		close(s.stop)
	})
}

// Stop ends this end's sending, takes what still comes until there has been
// nothing for a while, and closes the socket. If the other end goes on sending
// it lasts until ctx ends.
func (s *UDPSession) Stop(ctx context.Context) UDPStats {
	s.Halt()
	<-s.sent
	quiet := time.NewTicker(udpQuiet / 10)
	defer quiet.Stop()
	halted := time.Now()
	for done := false; !done; {
		select {
		case <-quiet.C:
		case <-ctx.Done():
			done = true
		}
		s.mu.Lock()
		done = done || time.Since(s.last) >= udpQuiet && time.Since(halted) >= udpQuiet
		s.mu.Unlock()
	}
	s.mu.Lock()
	s.stats.Duration, s.over = time.Since(s.begin), true
	s.mu.Unlock()
	s.conn.Close()
	<-s.received
	return s.Stats()
}

// Stats may be asked for at any time.
func (s *UDPSession) Stats() UDPStats {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.stats
	if !s.over {
		st.Duration = time.Since(s.begin)
	}
	if !s.halted {
		st.LongestGap = max(st.LongestGap, time.Since(s.last))
	}
	return st
}

func (s *UDPSession) send() {
	t := time.NewTicker(s.opt.Interval)
	defer t.Stop()
	random := uint64(s.begin.UnixNano()) | 1
	payload := make([]byte, s.opt.Block)
	for seq := uint64(0); ; {
		select {
		case <-s.stop:
			return
		case <-t.C:
		}
		s.mu.Lock()
		peer := s.peer
		s.mu.Unlock()
		if !peer.IsValid() {
			continue
		}
		random = fill(payload, random)
		b := block(seq, payload)
		if s.opt.tamper != nil {
			b = s.opt.tamper(b)
		}
		_, err := s.conn.WriteToUDPAddrPort(b, peer)
		s.mu.Lock()
		if err == nil {
			s.stats.Sent++
			seq++
		} else {
			s.stats.Unsent++
			s.stats.LastError = err.Error()
		}
		s.mu.Unlock()
	}
}

func (s *UDPSession) receive() {
	buf := make([]byte, maxDatagram)
	for failed := 0; failed < maxReadErrors; {
		n, from, err := s.conn.ReadFromUDPAddrPort(buf)
		if errors.Is(err, net.ErrClosed) || errors.Is(err, os.ErrClosed) {
			return
		}
		if err != nil {
			s.mu.Lock()
			s.stats.LastError = err.Error()
			s.mu.Unlock()
			failed++
			continue
		}
		failed = 0
		seq, err := datagram(buf[:n])
		s.took(seq, err, from)
	}
}

// datagram checks one and gives its number.
func datagram(b []byte) (seq uint64, err error) {
	if len(b) < headerSize || binary.LittleEndian.Uint32(b) != magic || int(binary.LittleEndian.Uint32(b[4:])) != len(b)-headerSize {
		return 0, errors.New("a datagram does not have the form of one of ours")
	}
	if checksum(b[8:16], b[headerSize:]) != binary.LittleEndian.Uint32(b[16:]) {
		return 0, errors.New("a datagram has a wrong checksum")
	}
	if seq = binary.LittleEndian.Uint64(b[8:]); seq >= maxDatagrams {
		return 0, fmt.Errorf("a datagram has the number %d", seq)
	}
	return seq, nil
}

func (s *UDPSession) took(seq uint64, err error, from netip.AddrPort) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over {
		return
	}
	if err != nil {
		s.stats.Damaged++
		s.stats.LastError = err.Error()
		return
	}
	if !s.peer.IsValid() {
		s.peer = from
	}
	now := time.Now()
	if !s.halted {
		s.stats.LongestGap = max(s.stats.LongestGap, now.Sub(s.last))
	}
	s.last = now
	for uint64(len(s.seen)) <= seq/64 {
		s.seen = append(s.seen, 0)
	}
	bit := uint64(1) << (seq % 64)
	if s.seen[seq/64]&bit != 0 {
		s.stats.Duplicated++
		return
	}
	s.seen[seq/64] |= bit
	if seq < s.next {
		s.stats.Reordered++
	}
	s.next = max(s.next, seq+1)
	if s.stats.Received++; s.stats.Received == 1 {
		close(s.first)
	}
}
