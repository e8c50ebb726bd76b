// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/lupatch/lupatch/internal/lab/stream"
	"github.com/lupatch/lupatch/internal/lab/wire"
)

// WaitNetwork waits until an interface of the guest has an address and a carrier.
func (h *Host) WaitNetwork(ctx context.Context, name string) (wire.Interface, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	doing := "waiting for the lab host's " + name
	var ifc wire.Interface
	k, err := h.conn.start(ctx, wire.OpNetwork, wire.Network{Name: name})
	if err != nil {
		return ifc, h.explain(doing, err)
	}
	defer k.forget()
	m, err := k.reply(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		// Its answer says what is missing.
		grace, cancel := context.WithTimeout(context.Background(), agentGrace)
		defer cancel()
		if h.conn.send(grace, &wire.Message{ID: k.id, Op: wire.OpHalt}) == nil {
			m, err = k.reply(grace)
		}
	}
	if err != nil {
		return ifc, h.explain(doing, err)
	}
	return ifc, decode(m, &ifc)
}

// Stream is a TCP connection between the guest and this process on which both
// send checked blocks all the time.
type Stream struct {
	h       *Host
	call    *call
	session *stream.Session
}

// StreamStats is what both ends saw. Nothing ever connects again, so that there
// are no reconnects to count: a stream that is complete never broke.
type StreamStats struct {
	Host  stream.Stats `json:"host"`
	Guest stream.Stats `json:"guest"`
}

// BytesUp counts from the guest to this machine.
func (s *StreamStats) BytesUp() int64 { return s.Host.BytesReceived }

// BytesDown counts from this machine to the guest.
func (s *StreamStats) BytesDown() int64 { return s.Guest.BytesReceived }

// LongestGap is the longest silence that either end met.
func (s *StreamStats) LongestGap() time.Duration {
	return max(s.Host.LongestGap, s.Guest.LongestGap)
}

// Err says what was wrong with the stream, if anything: wrong checksums, blocks
// lost, a broken connection, or bytes sent that never came.
func (s *StreamStats) Err() error {
	var errs []error
	for _, e := range s.Host.Errors {
		errs = append(errs, errors.New("host: "+e))
	}
	for _, e := range s.Guest.Errors {
		errs = append(errs, errors.New("guest: "+e))
	}
	if len(errs) == 0 && (!s.Host.Complete || !s.Guest.Complete) {
		errs = append(errs, errors.New("the stream did not come to its end"))
	}
	if len(errs) == 0 && (s.Host.BlocksSent != s.Guest.BlocksReceived || s.Guest.BlocksSent != s.Host.BlocksReceived) {
		errs = append(errs, fmt.Errorf("blocks were lost: %d of %d down, %d of %d up",
			s.Guest.BlocksReceived, s.Host.BlocksSent, s.Host.BlocksReceived, s.Guest.BlocksSent))
	}
	return errors.Join(errs...)
}

// StreamOptions set the load; the zero value is some 1.6 MB/s in each direction.
type StreamOptions struct {
	// Device is the interface that the guest's end is bound to; empty for the
	// one that its routes give.
	Device   string
	Block    int           // payload of a block in bytes
	Interval time.Duration // between blocks; negative: no pause
}

// StartStream connects the guest to this process and begins to exchange blocks.
func (h *Host) StartStream(ctx context.Context, opt StreamOptions) (*Stream, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	const doing = "starting a stream from the lab host"
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("%s: %w", doing, err)
	}
	defer l.Close()
	accepted := make(chan net.Conn, 1)
	go func() {
		defer close(accepted)
		if c, err := l.Accept(); err == nil {
			accepted <- c
		}
	}()
	k, err := h.conn.start(ctx, wire.OpStream, wire.Stream{Port: l.Addr().(*net.TCPAddr).Port, Device: opt.Device, Block: opt.Block, Interval: opt.Interval})
	if err != nil {
		return nil, h.explain(doing, err)
	}
	// The first reply says that the guest is connected, or why not.
	if _, err := k.reply(ctx); err != nil {
		k.forget()
		return nil, h.explain(doing, err)
	}
	select {
	case c := <-accepted:
		return &Stream{h: h, call: k, session: stream.Start(c, stream.Options{Block: opt.Block, Interval: opt.Interval})}, nil
	case <-ctx.Done():
		k.forget()
		return nil, h.explain(doing, ctx.Err())
	}
}

// Stats is what this end sees now.
func (s *Stream) Stats() stream.Stats { return s.session.Stats() }

// Broken is closed when the stream has ended, which it does not do by itself.
func (s *Stream) Broken() <-chan struct{} { return s.session.Done() }

// Stop ends the stream in both directions and gives the statistics of both
// ends. The error is about asking for them, not about what they say: see
// StreamStats.Err.
func (s *Stream) Stop(ctx context.Context) (*StreamStats, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	defer s.call.forget()
	const doing = "stopping a stream from the lab host"
	err := s.h.conn.send(ctx, &wire.Message{ID: s.call.id, Op: wire.OpHalt})
	st := &StreamStats{Host: s.session.Stop(ctx)}
	if err != nil {
		return st, s.h.explain(doing, err)
	}
	for {
		m, err := s.call.reply(ctx)
		if err != nil {
			return st, s.h.explain(doing, err)
		}
		if m.Op == wire.OpDone {
			return st, decode(m, &st.Guest)
		}
	}
}
