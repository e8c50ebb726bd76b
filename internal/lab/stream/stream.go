// SPDX-License-Identifier: Apache-2.0

// Package stream exchanges checked blocks over one connection, in both
// directions at once, to show whether the connection survives what is done to
// the machine meanwhile. It never connects again: a stream that is alive at the
// end is the one that was there at the start.
package stream

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net"
	"sync"
	"time"
)

// Defaults keep a stream busy without starving an emulated CPU: some 1.6 MB/s
// each way.
const (
	DefaultBlock    = 8 << 10
	DefaultInterval = 5 * time.Millisecond
)

// maxBlock bounds what a damaged length can make the receiver allocate.
const maxBlock = 1 << 20

// magic starts each block, so that lost bytes are told from changed ones.
const magic = 0x6c757061 // "lupa"

// headerSize: magic, length, sequence number, CRC-32 (Castagnoli) of sequence
// number and payload.
const headerSize = 4 + 4 + 8 + 4

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Stats is what one end saw.
type Stats struct {
	BytesSent      int64 `json:"bytes_sent"`
	BytesReceived  int64 `json:"bytes_received"`
	BlocksSent     int64 `json:"blocks_sent"`
	BlocksReceived int64 `json:"blocks_received"`
	// LongestGap is the longest time between two blocks received, the one that
	// lasts now included.
	LongestGap time.Duration `json:"longest_gap_ns"`
	Duration   time.Duration `json:"duration_ns"`
	// Retransmits counts the segments that this end's kernel sent again.
	Retransmits int64 `json:"retransmits"`
	// Complete says that the other end's stream was received to its end.
	Complete bool `json:"complete"`
	// Errors are wrong checksums, lost blocks and a broken connection.
	Errors []string `json:"errors,omitempty"`
}

// Options of a session.
type Options struct {
	// Block is the payload of a block in bytes; 0 means DefaultBlock.
	Block int
	// Interval is the time between two blocks; 0 means DefaultInterval, a
	// negative one no pause.
	Interval time.Duration
	// tamper changes blocks under way, for tests.
	tamper func(block []byte) []byte
}

// Session is one end of a stream.
type Session struct {
	conn  net.Conn
	opt   Options
	stop  chan struct{}
	once  sync.Once
	done  chan struct{}
	begin time.Time

	mu    sync.Mutex
	stats Stats
	last  time.Time
	over  bool
}

// Start begins to send and to receive on conn, which the session owns from now.
func Start(conn net.Conn, opt Options) *Session {
	if opt.Block <= 0 || opt.Block > maxBlock {
		opt.Block = DefaultBlock
	}
	if opt.Interval == 0 {
		opt.Interval = DefaultInterval
	}
	now := time.Now()
	s := &Session{conn: conn, opt: opt, stop: make(chan struct{}), done: make(chan struct{}), begin: now, last: now}
	var wg sync.WaitGroup
	wg.Add(2)
	go func() { defer wg.Done(); s.run("sending", s.send) }()
	go func() { defer wg.Done(); s.run("receiving", s.receive) }()
	go func() {
		wg.Wait()
		s.close()
		s.mu.Lock()
		s.stats.Duration, s.over = time.Since(s.begin), true
		s.mu.Unlock()
		close(s.done)
	}()
	return s
}

// run ends the whole session if one direction fails.
func (s *Session) run(what string, f func() error) {
	if err := f(); err != nil {
		s.mu.Lock()
		s.stats.Errors = append(s.stats.Errors, fmt.Sprintf("%s: %v", what, err))
		s.mu.Unlock()
		s.Halt()
		s.close()
	}
}

// close keeps what the kernel knows only while the connection is open.
func (s *Session) close() {
	s.mu.Lock()
	s.count()
	s.mu.Unlock()
	s.conn.Close()
}

func (s *Session) count() {
	if n, ok := retransmits(s.conn); ok {
		s.stats.Retransmits = n
	}
}

// Done is closed when both directions have ended.
func (s *Session) Done() <-chan struct{} { return s.done }

// Halt lets this end send no more blocks. It does not wait.
func (s *Session) Halt() { s.once.Do(func() { close(s.stop) }) }

// Stop ends this end's sending and waits for the other end's, which has to be
// stopped too. If ctx ends first the connection is cut, which is an error in
// the statistics.
func (s *Session) Stop(ctx context.Context) Stats {
	s.Halt()
	select {
	case <-s.done:
	case <-ctx.Done():
		s.close()
		<-s.done
	}
	return s.Stats()
}

// Stats may be asked for at any time.
func (s *Session) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.count()
	st := s.stats
	st.Errors = append([]string(nil), st.Errors...)
	if !s.over {
		st.Duration = time.Since(s.begin)
		if !st.Complete {
			st.LongestGap = max(st.LongestGap, time.Since(s.last))
		}
	}
	return st
}

func (s *Session) send() error {
	var pace <-chan time.Time
	if s.opt.Interval > 0 {
		t := time.NewTicker(s.opt.Interval)
		defer t.Stop()
		pace = t.C
	} else {
		always := make(chan time.Time)
		close(always)
		pace = always
	}
	random := uint64(s.begin.UnixNano()) | 1
	payload := make([]byte, s.opt.Block)
	for seq := uint64(0); ; seq++ {
		select {
		case <-s.stop:
			// A block without content says that the end was meant.
			if _, err := s.conn.Write(block(seq, nil)); err != nil {
				return err
			}
			if c, ok := s.conn.(interface{ CloseWrite() error }); ok {
				return c.CloseWrite()
			}
			return nil
		case <-pace:
		}
		random = fill(payload, random)
		b := block(seq, payload)
		if s.opt.tamper != nil {
			b = s.opt.tamper(b)
		}
		n, err := s.conn.Write(b)
		s.mu.Lock()
		s.stats.BytesSent += int64(n)
		if err == nil {
			s.stats.BlocksSent++
		}
		s.mu.Unlock()
		if err != nil {
			return err
		}
	}
}

func (s *Session) receive() error {
	var head [headerSize]byte
	payload := make([]byte, 0, s.opt.Block)
	for want := uint64(0); ; want++ {
		if _, err := io.ReadFull(s.conn, head[:]); err != nil {
			if errors.Is(err, io.EOF) {
				return errors.New("the other end closed the connection before its last block")
			}
			return err
		}
		size, seq := binary.LittleEndian.Uint32(head[4:]), binary.LittleEndian.Uint64(head[8:])
		switch {
		case binary.LittleEndian.Uint32(head[:]) != magic || size > maxBlock:
			return fmt.Errorf("block %d does not start like a block: bytes were lost or changed", want)
		case seq != want:
			return fmt.Errorf("block %d came instead of block %d", seq, want)
		}
		if cap(payload) < int(size) {
			payload = make([]byte, size)
		}
		payload = payload[:size]
		if _, err := io.ReadFull(s.conn, payload); err != nil {
			return fmt.Errorf("in block %d: %w", seq, err)
		}
		if checksum(head[8:16], payload) != binary.LittleEndian.Uint32(head[16:]) {
			return fmt.Errorf("block %d has a wrong checksum", seq)
		}
		s.received(size)
		if size == 0 {
			return nil
		}
	}
}

func (s *Session) received(size uint32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	s.stats.LongestGap = max(s.stats.LongestGap, now.Sub(s.last))
	s.last = now
	if size == 0 {
		s.stats.Complete = true
		return
	}
	s.stats.BlocksReceived++
	s.stats.BytesReceived += int64(size) + headerSize
}

func block(seq uint64, payload []byte) []byte {
	b := make([]byte, headerSize+len(payload))
	binary.LittleEndian.PutUint32(b, magic)
	binary.LittleEndian.PutUint32(b[4:], uint32(len(payload)))
	binary.LittleEndian.PutUint64(b[8:], seq)
	copy(b[headerSize:], payload)
	binary.LittleEndian.PutUint32(b[16:], checksum(b[8:16], payload))
	return b
}

func checksum(seq, payload []byte) uint32 {
	return crc32.Update(crc32.Checksum(seq, castagnoli), castagnoli, payload)
}

// fill makes pseudo-random bytes (xorshift64): quick, and unlike zeros they do
// not hide a shifted or repeated part.
func fill(b []byte, x uint64) uint64 {
	for i := 0; i+8 <= len(b); i += 8 {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		binary.LittleEndian.PutUint64(b[i:], x)
	}
	return x
}
