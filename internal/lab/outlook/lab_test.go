// SPDX-License-Identifier: Apache-2.0

package outlook_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/lupatch/lupatch/internal/lab"
	"github.com/lupatch/lupatch/internal/lab/labtest"
	"github.com/lupatch/lupatch/internal/lab/outlook"
	"github.com/lupatch/lupatch/internal/lab/poll"
	"github.com/lupatch/lupatch/internal/sample"
)

// setUp gives the cards what hosts have on top of them.
const setUp = `set -e
ip link add link eth1 name eth1.7 type vlan id 7
ip link add br0 type bridge
ip link set eth1.7 master br0
ip link set eth1.7 up
ip link set br0 up
ip maddr add 33:33:00:00:00:42 dev eth1
ip link set eth1 alias second
ip link property add dev eth1 altname uplink
tc qdisc add dev eth1 root tbf rate 100mbit burst 100k latency 50ms
ethtool -G eth1 rx 512 tx 512
ethtool -K eth1 tso off
ip neigh add 10.0.3.77 lladdr 02:00:00:00:00:77 dev eth1
ip route add 192.0.2.0/24 via 10.0.3.2 dev eth1
`

// TestOutlook takes every record of a host on which nothing happens, and then of
// one whose driver is replaced the usual way.
func TestOutlook(t *testing.T) {
	t.Parallel()
	sample.OnlyThorough(t, "TestDriverView looks at more")
	h := labtest.Boot(t, lab.Config{
		NICs:     []lab.NIC{{Model: "virtio-net-pci"}, {Model: "e1000"}},
		Packages: []string{"iproute2", "ethtool", "nftables", "udev"},
		Modules:  []string{"8021q", "bridge", "sch_tbf", "nf_tables"},
	})
	ctx := labtest.Context(t)
	for _, name := range []string{"eth0", "eth1"} {
		if _, err := h.WaitNetwork(ctx, name); err != nil {
			t.Fatal(err)
		}
	}
	labtest.Sh(t, h, setUp)
	if _, err := h.WaitNetwork(ctx, "eth1"); err != nil { // its rings were exchanged
		t.Fatal(err)
	}
	names := []string{"eth0", "eth1", "eth1.7"}
	guard, err := outlook.StartGuard(ctx, h, "eth1", "10.0.3.2")
	if err != nil {
		t.Fatal(err)
	}
	udp, err := h.StartUDP(ctx, lab.StreamOptions{Device: "eth1"})
	if err != nil {
		t.Fatal(err)
	}
	before := take(t, ctx, h, names)
	checkComplete(t, before)

	quiet := during(t, ctx, h, names[:2], func() { waitUDP(t, ctx, udp, udp.Stats().Received+300) })
	if err := quiet.report.Err(); err != nil {
		t.Errorf("pollers: %v", err)
	}
	if got := quiet.events.Alarming(); len(got) > 0 {
		t.Errorf("events: %q", got)
	}
	after := take(t, ctx, h, names)
	if err := outlook.Diff(before, after).Err(); err != nil {
		t.Errorf("nothing happened, and it shows: %v", err)
	}
	if grew := after.Counters["eth1: sysfs statistics/rx_packets"] - before.Counters["eth1: sysfs statistics/rx_packets"]; grew < 300 {
		t.Errorf("300 datagrams came, and %d packets were counted", grew)
	}
	counts, err := guard.Counts(ctx)
	if err != nil || counts.OutMatched < 300 || counts.InMatched < 300 || counts.OutSlipped+counts.InSlipped != 0 {
		t.Errorf("guard: %+v, %v", counts, err)
	}
	for name, s := range quiet.report {
		t.Logf("%s: %d reads, longest %v", name, s.Reads, s.Longest)
	}
	if st, err := udp.Stop(ctx); err != nil || st.Err() != nil {
		t.Errorf("%v, %v", err, st.Err())
	}

	// The usual way.
	reload := during(t, ctx, h, names[:2], func() {
		if err := h.Rmmod(ctx, "e1000"); err != nil {
			t.Fatal(err)
		}
		if err := h.Modprobe(ctx, "e1000", ""); err != nil {
			t.Fatal(err)
		}
		if _, err := h.WaitNetwork(ctx, "eth1"); err != nil {
			t.Fatal(err)
		}
	})
	if err := reload.report.Err(); err == nil {
		t.Error("no poller saw the interface go")
	}
	alarming := strings.Join(reload.events.Alarming(), "\n")
	for _, want := range []string{"[LINK]Deleted", "[ADDR]Deleted", "remove ", "add "} {
		if !strings.Contains(alarming, want) {
			t.Errorf("the events do not have %q:\n%s", want, alarming)
		}
	}
	changes := outlook.Diff(before, take(t, ctx, h, names))
	told := changes.Err().Error()
	for _, want := range []string{"ip -d addr", "ip maddr", "192.0.2.0/24", "10.0.3.77", "qdisc tbf", "ethtool -g", "ethtool -k",
		"eth1.7: ip -d addr", "sysfs statistics/rx_packets", "altname uplink"} {
		if !strings.Contains(told, want) {
			t.Errorf("a driver was unloaded and loaded, and %q is not among what differs", want)
		}
	}
	if rest := changes.Without("eth1", "br0", "interfaces", "vlans").Err(); rest != nil {
		t.Errorf("differences where nothing happened: %v", rest)
	}
	t.Logf("%d sections differ, %d counters went back", len(changes.Differences), len(changes.Backwards))
}

func take(t *testing.T, ctx context.Context, h *lab.Host, names []string) *outlook.Outlook {
	t.Helper()
	begin := time.Now()
	o, err := outlook.Take(ctx, h, names...)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d sections and %d counters in %v", len(o.State), len(o.Counters), time.Since(begin).Round(time.Millisecond))
	return o
}

// checkComplete looks for something of everything that was set up, so that a
// command that fails is not taken for one that has nothing to say.
func checkComplete(t *testing.T, o *outlook.Outlook) {
	t.Helper()
	for section, want := range map[string]string{
		"eth1: ip -d addr show":            "alias second",
		"eth0: ip -d addr show":            "inet 10.0.2.15/24",
		"eth1: ip -4 route show table all": "192.0.2.0/24 via 10.0.3.2",
		"eth1: ip -6 route show table all": "fe80::/64",
		"eth1: ip neigh show":              "10.0.3.77 lladdr 02:00:00:00:00:77 PERMANENT",
		"eth1: ip maddr show":              "33:33:00:00:00:42",
		"eth1: tc -d qdisc show":           "qdisc tbf",
		"eth1.7: bridge -d link show":      "master br0",
		"eth1.7: ip -d addr show":          "vlan protocol 802.1Q id 7",
		"eth1: bridge fdb":                 "self permanent",
		"eth1: sysfs links":                "device -> ",
		"eth1: sysfs":                      "mtu:1500",
		"eth1: /proc/net/dev_mcast":        "333300000042",
		"eth1: ethtool":                    "Link detected: yes",
		"eth1: ethtool -a":                 "RX:",
		"eth0: ethtool -c":                 "Adaptive RX",
		"eth1: ethtool -e":                 "0x0000:",
		"eth1: ethtool -g":                 "512",
		"eth1: ethtool -i":                 "driver: e1000",
		"eth1: ethtool -k":                 "tcp-segmentation-offload: off",
		"eth0: ethtool -l":                 "Combined:",
		"eth1: ethtool -P":                 "Permanent address: 52:54:00",
		"eth1: ethtool -T":                 "Time stamping",
		"interfaces":                       "br0",
		"ip rule show":                     "lookup main",
		"vlans":                            "eth1.7",
	} {
		if !strings.Contains(o.State[section], want) {
			t.Errorf("%s does not say %q: %q", section, want, o.State[section])
		}
	}
	for _, name := range []string{"eth1: sysfs statistics/tx_bytes", "eth1: tc -j -s qdisc show tbf 8001:  packets",
		"eth1: /proc/net/dev column 1", "eth1: ethtool -S rx_packets"} {
		if o.Counters[name] == 0 {
			t.Errorf("nothing is counted as %q", name)
		}
	}
}

type seen struct {
	report poll.Report
	events *outlook.Events
}

// during polls and watches while f runs.
func during(t *testing.T, ctx context.Context, h *lab.Host, names []string, f func()) (s seen) {
	t.Helper()
	w, err := outlook.StartWatch(ctx, h)
	if err != nil {
		t.Fatal(err)
	}
	p, err := h.StartPoll(ctx, poll.Options{Names: names})
	if err != nil {
		t.Fatal(err)
	}
	f()
	if s.report, err = p.Stop(ctx); err != nil {
		t.Fatal(err)
	}
	if s.events, err = w.Stop(ctx); err != nil {
		t.Fatal(err)
	}
	return s
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
