// SPDX-License-Identifier: Apache-2.0

package lab_test

import (
	"context"
	"testing"
	"time"

	"github.com/lupatch/lupatch/internal/lab"
	"github.com/lupatch/lupatch/internal/lab/labtest"
)

// TestLabStreams runs a TCP and a UDP stream through each of two cards, takes
// the link of one away for a while, and finds what that cost.
func TestLabStreams(t *testing.T) {
	t.Parallel()
	h := labtest.Boot(t, lab.Config{NICs: []lab.NIC{{Model: "virtio-net-pci"}, {Model: "e1000"}}})
	ctx := labtest.Context(t)
	var tcp []*lab.Stream
	var udp []*lab.UDPStream
	for _, name := range []string{"eth0", "eth1"} {
		ifc, err := h.WaitNetwork(ctx, name)
		if err != nil {
			t.Fatal(err)
		}
		s, err := h.StartStream(ctx, lab.StreamOptions{Device: ifc.Name})
		if err != nil {
			t.Fatal(err)
		}
		u, err := h.StartUDP(ctx, lab.StreamOptions{Device: ifc.Name})
		if err != nil {
			t.Fatal(err)
		}
		tcp, udp = append(tcp, s), append(udp, u)
	}
	for i := range tcp {
		waitStream(t, ctx, tcp[i], 200_000)
		waitUDP(t, ctx, udp[i], 200)
	}
	// Without its card a bound socket has no way, though there is another one.
	before := udp[0].Stats().Received
	labtest.Sh(t, h, "ip link set eth0 down")
	waitUDP(t, ctx, udp[1], udp[1].Stats().Received+100)
	labtest.Sh(t, h, "ip link set eth0 up")
	waitUDP(t, ctx, udp[0], before+100)
	waitStream(t, ctx, tcp[0], tcp[0].Stats().BytesReceived+200_000)

	for i := range tcp {
		st, err := tcp[i].Stop(ctx)
		if err != nil || st.Err() != nil {
			t.Fatalf("card %d: %v, %v", i, err, st.Err())
		}
		us, err := udp[i].Stop(ctx)
		if err != nil || us.Err() != nil {
			t.Fatalf("card %d: %v, %v", i, err, us.Err())
		}
		t.Logf("card %d: TCP gap %v, %d segments again; %s", i, st.LongestGap().Round(time.Millisecond), st.Guest.Retransmits, us)
		switch disturbed := i == 0; {
		case disturbed && (us.Guest.Unsent == 0 && us.LostUp() == 0 || us.LongestGap() < 100*time.Millisecond):
			t.Errorf("the card was down, and the UDP stream did not notice: %s", us)
		// A host that has to wait for a processor loses a datagram of thousands.
		case !disturbed && (us.LostUp()+us.LostDown() > us.Host.Sent/1000 || us.Guest.Unsent != 0 || us.LongestGap() > 900*time.Millisecond || st.Guest.Retransmits != 0):
			t.Errorf("something was lost on a card that nobody touched: %s; %d segments sent again", us, st.Guest.Retransmits)
		}
	}
	if _, err := h.StartStream(ctx, lab.StreamOptions{Device: "eth7"}); err == nil {
		t.Error("a stream through a card that there is not")
	}
	if _, err := h.StartUDP(ctx, lab.StreamOptions{Device: "eth7"}); err == nil {
		t.Error("a UDP stream through a card that there is not")
	}
}

func waitUDP(t *testing.T, ctx context.Context, s *lab.UDPStream, datagrams int64) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for s.Stats().Received < datagrams {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("the UDP stream stands still: %+v", s.Stats())
		}
	}
}
