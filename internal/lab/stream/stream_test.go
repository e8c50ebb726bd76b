// SPDX-License-Identifier: Apache-2.0

package stream

import (
	"context"
	"net"
	"strings"
	"testing"
	"time"
)

// pair gives both ends of a real TCP connection.
func pair(t *testing.T) (a, b net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	a, err = net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	b, err = l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close(); b.Close() })
	return a, b
}

func limit(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// until waits for a condition on the statistics of a running session.
func until(t *testing.T, s *Session, cond func(Stats) bool) {
	t.Helper()
	ctx := limit(t)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !cond(s.Stats()) {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("never happened: %+v", s.Stats())
		}
	}
}

func TestBothWays(t *testing.T) {
	ca, cb := pair(t)
	a, b := Start(ca, Options{Interval: -1}), Start(cb, Options{Block: 1000, Interval: -1})
	enough := func(s Stats) bool { return s.BlocksReceived > 500 }
	until(t, a, enough)
	until(t, b, enough)
	a.Halt()
	sb, sa := b.Stop(limit(t)), a.Stop(limit(t))
	for _, s := range []Stats{sa, sb} {
		if !s.Complete || len(s.Errors) > 0 || s.LongestGap <= 0 || s.Duration <= 0 {
			t.Errorf("%+v", s)
		}
	}
	if sa.BytesSent != sb.BytesReceived || sb.BytesSent != sa.BytesReceived || sa.BlocksSent != sb.BlocksReceived {
		t.Errorf("lost something:\n%+v\n%+v", sa, sb)
	}
}

func TestDamageIsFound(t *testing.T) {
	cases := map[string]struct {
		tamper func([]byte) []byte
		want   string
	}{
		"payload":  {func(b []byte) []byte { b[headerSize+3] ^= 1; return b }, "wrong checksum"},
		"sequence": {func(b []byte) []byte { b[8] ^= 1; return b }, "instead of block"},
		"lost":     {func(b []byte) []byte { return b[1:] }, "does not start like a block"},
		"length":   {func(b []byte) []byte { b[7] = 0xff; return b }, "does not start like a block"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			ca, cb := pair(t)
			n := 0
			a := Start(ca, Options{Interval: -1, tamper: func(b []byte) []byte {
				if n++; n == 50 {
					return c.tamper(b)
				}
				return b
			}})
			b := Start(cb, Options{})
			select {
			case <-b.Done():
			case <-limit(t).Done():
				t.Fatal("not noticed")
			}
			s := b.Stats()
			if s.Complete || len(s.Errors) == 0 || !strings.Contains(strings.Join(s.Errors, ";"), c.want) {
				t.Errorf("%+v", s)
			}
			a.Stop(limit(t))
		})
	}
}

func TestBrokenConnectionIsAnError(t *testing.T) {
	ca, cb := pair(t)
	s := Start(ca, Options{})
	cb.Close()
	<-s.Done()
	if st := s.Stats(); st.Complete || len(st.Errors) == 0 {
		t.Errorf("%+v", st)
	}
}

func TestGapIsMeasured(t *testing.T) {
	ca, cb := pair(t)
	a := Start(ca, Options{})
	// The peer is silent: the gap that lasts now counts.
	until(t, a, func(s Stats) bool { return s.LongestGap > 30*time.Millisecond })
	b := Start(cb, Options{})
	until(t, a, func(s Stats) bool { return s.BlocksReceived > 3 })
	b.Halt()
	if s := a.Stop(limit(t)); s.LongestGap < 30*time.Millisecond || len(s.Errors) > 0 {
		t.Errorf("%+v", s)
	}
}

func TestStopGivesUp(t *testing.T) {
	ca, _ := pair(t)
	s := Start(ca, Options{})
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	if st := s.Stop(ctx); st.Complete || len(st.Errors) == 0 {
		t.Errorf("%+v", st)
	}
}
