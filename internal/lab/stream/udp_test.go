// SPDX-License-Identifier: Apache-2.0

package stream

import (
	"context"
	"net"
	"net/netip"
	"testing"
	"time"
)

func udpSocket(t *testing.T) *net.UDPConn {
	t.Helper()
	c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func addrOf(c *net.UDPConn) netip.AddrPort { return c.LocalAddr().(*net.UDPAddr).AddrPort() }

func untilUDP(t *testing.T, s *UDPSession, cond func(UDPStats) bool) {
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

// stopBoth ends a pair as lab does: one side sends no more, then the other.
func stopBoth(ctx context.Context, a, b *UDPSession) (sa, sb UDPStats) {
	a.Halt()
	sb = b.Stop(ctx)
	return a.Stop(ctx), sb
}

func TestUDPBothWays(t *testing.T) {
	ca, cb := udpSocket(t), udpSocket(t)
	a := StartUDP(ca, netip.AddrPort{}, Options{Interval: time.Millisecond}) // learns who the other one is
	b := StartUDP(cb, addrOf(ca), Options{Interval: time.Millisecond, Block: 1200})
	enough := func(s UDPStats) bool { return s.Received > 200 }
	untilUDP(t, a, enough)
	untilUDP(t, b, enough)
	<-a.First()
	sa, sb := stopBoth(limit(t), a, b)
	if sa.Sent != sb.Received || sb.Sent != sa.Received || sa.Sent < 200 || sa.Duration <= 0 || sa.LongestGap <= 0 {
		t.Errorf("lost something:\n%+v\n%+v", sa, sb)
	}
	for _, s := range []UDPStats{sa, sb} {
		if s.Duplicated+s.Reordered+s.Damaged+s.Unsent != 0 {
			t.Errorf("%+v", s)
		}
	}
}

// What a network can do to datagrams is told apart.
func TestUDPFaultsAreCounted(t *testing.T) {
	ca, cb := udpSocket(t), udpSocket(t)
	b := StartUDP(cb, addrOf(ca), Options{})
	b.Halt()
	damaged := block(7, []byte("payload!"))
	damaged[headerSize] ^= 1
	short := block(8, []byte("payload!"))
	for _, d := range [][]byte{
		block(0, []byte("x")), block(3, []byte("x")), block(3, []byte("x")), block(1, []byte("x")),
		damaged, short[:len(short)-1], block(maxDatagrams, []byte("x")), {1},
	} {
		if _, err := ca.WriteToUDPAddrPort(d, addrOf(cb)); err != nil {
			t.Fatal(err)
		}
	}
	untilUDP(t, b, func(s UDPStats) bool { return s.Damaged == 4 })
	s := b.Stop(limit(t))
	if s.Received != 3 || s.Duplicated != 1 || s.Reordered != 1 || s.Damaged != 4 || s.LastError == "" {
		t.Errorf("%+v", s)
	}
}

// Whoever stops receiving loses what the other one sends on.
func TestUDPLossAndGap(t *testing.T) {
	ca, cb := udpSocket(t), udpSocket(t)
	a, b := StartUDP(ca, addrOf(cb), Options{Interval: time.Millisecond}), StartUDP(cb, addrOf(ca), Options{Interval: time.Millisecond})
	untilUDP(t, a, func(s UDPStats) bool { return s.Received > 20 })
	b.Halt()
	sb := b.Stop(limited(t, 50*time.Millisecond))
	untilUDP(t, a, func(s UDPStats) bool { return s.Sent > sb.Received+20 && s.LongestGap > 50*time.Millisecond })
	if sa := a.Stop(limit(t)); sa.Sent <= sb.Received || sa.LongestGap < 50*time.Millisecond {
		t.Errorf("%+v\n%+v", sa, sb)
	}
}

func limited(t *testing.T, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}
