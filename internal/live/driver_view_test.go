// SPDX-License-Identifier: Apache-2.0

package live

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
	"github.com/lupatch/lupatch/shadow/shadowtest"
)

// viewSetUp gives four cards of one driver what hosts have on top of them: the first
// is configured in every way, the second is in a bridge, the third in a bond that
// looks at its link ten times a second, the fourth belongs to systemd-networkd.
const viewSetUp = `set -e
ip link set lo up
ip link set eth0 address 02:00:00:00:01:00
ip link set eth0 mtu 1400
ip link set eth0 alias first
ip link property add dev eth0 altname uplink
ip link set eth0 promisc on
ethtool -K eth0 tso off
ethtool -s eth0 msglvl 0x17 || true
ip addr add 10.0.2.15/24 dev eth0
ip addr add 10.0.2.115/24 dev eth0 label eth0:a
ip link set eth0 up
ip route add default via 10.0.2.2 dev eth0
ip route add 192.0.2.0/24 via 10.0.2.2 dev eth0 metric 50
ip neigh add 10.0.2.77 lladdr 02:00:00:00:00:77 dev eth0
ip maddr add 33:33:00:00:00:42 dev eth0
tc qdisc add dev eth0 root tbf rate 200mbit burst 200k latency 100ms
ip link add link eth0 name eth0.7 type vlan id 7
ip addr add 10.7.0.1/24 dev eth0.7
ip link set eth0.7 up
ip link add br0 type bridge
ip link set eth1 master br0
ip link set eth1 up
ip addr add 10.0.3.15/24 dev br0
ip link set br0 up
modprobe bonding max_bonds=0
ip link add bond0 type bond mode active-backup miimon 100
ip link set eth2 master bond0
ip addr add 10.0.4.15/24 dev bond0
ip link set bond0 up
/lib/systemd/systemd-udevd --daemon
udevadm trigger --action=add --subsystem-match=net
udevadm settle
mkdir -p /run/systemd
(/lib/systemd/systemd-networkd > /var/log/networkd 2>&1 &)
`

// viewOwn are settings that only one of the drivers has, made before the card is up.
var viewOwn = map[card]string{
	virtio: "ethtool -C eth0 tx-frames 0",
	e1000:  "ethtool -G eth0 rx 512 tx 512",
}

// viewKnown are sections that do differ, with what lupatch says about it. virtio_net
// takes its only setting of coalescing (NAPI for transmission) from a card that is
// down alone, and a card that is replaced is up all the time. Counters that a driver
// keeps for itself and shows to ethtool only begin anew with it; those of the
// network device go on.
var viewKnown = map[card][]string{
	virtio: {"eth0: ethtool -c", "ethtool -S"},
	e1000:  {"ethtool -S"},
}

// viewNetworkd is networkd's configuration for the fourth card.
const viewNetworkd = "[Match]\nName=eth3\n[Network]\nDHCP=ipv4\nLinkLocalAddressing=no\n"

var viewNames = []string{"eth0", "eth1", "eth2", "eth3", "eth0.7", "br0", "bond0"}

// TestDriverView replaces the driver of four cards, and takes it back, under the eyes
// of everybody who may look: what they see is what they saw before.
func TestDriverView(t *testing.T) {
	t.Parallel()
	for _, c := range []card{virtio, e1000} {
		if c == e1000 && !sample.Thorough() {
			continue
		}
		t.Run(c.module, func(t *testing.T) {
			t.Parallel()
			nic := lab.NIC{Model: c.model}
			g := driverHost(t, lab.Config{
				NICs: []lab.NIC{nic, nic, nic}, ManualNetwork: true, Packages: lab.NetworkTools, Memory: 768,
				Modules:   []string{"8021q", "bridge", "sch_tbf", "nf_tables", "af_packet"},
				Available: []string{"bonding"},
				Cmdline:   []string{"net.ifnames=0"},
				Files:     []lab.File{{Path: "/etc/systemd/network/10-lab.network", Data: []byte(viewNetworkd)}},
			}, c)
			g.sh(viewOwn[c])
			g.sh(viewSetUp)
			v := newView(t, g)
			v.known = viewKnown[c]
			file := g.variant(c, shadowtest.Newer)
			v.during("apply", func() {
				out := g.sh("lupatch apply --probation 0 " + file + " 2>&1")
				t.Log(out)
				if strings.Contains(out, "not put back") != (c == virtio) || c == virtio && !strings.Contains(out, "eth0: coalesce: tx-frames was 0, is 1") {
					t.Errorf("what was not put back is not what is known")
				}
			})
			v.during("rollback", func() { t.Log(g.sh("lupatch rollback " + c.module + " 2>&1")) })
			v.end()
		})
	}
}

// view is a host whose cards are in use and looked at.
type view struct {
	guest
	ctx     context.Context
	before  *outlook.Outlook
	known   []string
	guard   *outlook.Guard
	capture *lab.Process
	tcp     *lab.Stream
	udp     map[string]*lab.UDPStream // by interface
}

func newView(t *testing.T, g guest) *view {
	v := &view{guest: g, ctx: labtest.Context(t), udp: map[string]*lab.UDPStream{}}
	for _, name := range []string{"eth0", "br0", "bond0", "eth3"} {
		if _, err := g.WaitNetwork(v.ctx, name); err != nil {
			t.Fatalf("%v\n%s", err, g.sh("cat /var/log/networkd; ip -d addr"))
		}
	}
	var err error
	if v.guard, err = outlook.StartGuard(v.ctx, g.Host, "eth0", "10.0.2.2"); err != nil {
		t.Fatal(err)
	}
	if v.capture, err = g.Start(v.ctx, lab.Cmd{Argv: []string{"tcpdump", "-Z", "root", "-i", "eth0", "-nn", "-U", "-w", "/tmp/capture", "udp"}, Timeout: -1}); err != nil {
		t.Fatal(err)
	}
	if v.tcp, err = g.StartStream(v.ctx, lab.StreamOptions{Interval: 30 * time.Millisecond}); err != nil {
		t.Fatal(err)
	}
	// Each of them is bound to its interface.
	for _, name := range []string{"eth0", "br0", "bond0"} {
		if v.udp[name], err = g.StartUDP(v.ctx, lab.StreamOptions{Device: name, Block: 256, Interval: 50 * time.Millisecond}); err != nil {
			t.Fatal(err)
		}
	}
	v.flowing()
	v.before = v.take()
	return v
}

// flowing waits until every stream has brought something more, and the capture too.
func (v *view) flowing() {
	v.t.Helper()
	for name, s := range v.udp {
		tick := time.NewTicker(20 * time.Millisecond)
		for want := s.Stats().Received + 20; s.Stats().Received < want; {
			select {
			case <-tick.C:
			case <-v.ctx.Done():
				v.t.Fatalf("nothing comes through %s any more: %+v", name, s.Stats())
			}
		}
		tick.Stop()
	}
	select {
	case <-v.capture.Done():
		v.t.Fatalf("the capture has ended: %+v", v.wait(v.capture))
	default:
	}
	v.sh("n=$(wc -c < /tmp/capture); until [ $(wc -c < /tmp/capture) -gt $((n + 1000)) ]; do usleep 50000; done")
}

func (v *view) take() *outlook.Outlook {
	v.t.Helper()
	begin := time.Now()
	o, err := outlook.Take(v.ctx, v.Host, viewNames...)
	if err != nil {
		v.t.Fatal(err)
	}
	v.t.Logf("%d sections and %d counters in %v", len(o.State), len(o.Counters), time.Since(begin).Round(time.Millisecond))
	return o
}

// during has everybody look while f runs, and compares what they see before and after.
func (v *view) during(what string, f func()) {
	v.t.Helper()
	w, err := outlook.StartWatch(v.ctx, v.Host)
	if err != nil {
		v.t.Fatal(err)
	}
	p, err := v.StartPoll(v.ctx, poll.Options{Names: viewNames, Interval: 5 * time.Millisecond})
	if err != nil {
		v.t.Fatal(err)
	}
	f()
	v.flowing()
	report, err := p.Stop(v.ctx)
	if err != nil {
		v.t.Fatal(err)
	}
	events, err := w.Stop(v.ctx)
	if err != nil {
		v.t.Fatal(err)
	}
	if err := report.Err(); err != nil {
		v.t.Errorf("%s: pollers: %v", what, err)
	}
	for name, s := range report {
		v.t.Logf("%s: %s: %d reads, longest %v", what, name, s.Reads, s.Longest.Round(time.Millisecond))
	}
	v.t.Logf("%s: %d lines of ip monitor, %d of udevadm monitor:\n%s\n%s", what, len(events.IP), len(events.Udev), strings.Join(events.IP, "\n"), strings.Join(events.Udev, "\n"))
	for _, e := range events.Alarming() {
		v.t.Errorf("%s: event %s", what, e)
	}
	if err := outlook.Diff(v.before, v.take()).Without(v.known...).Err(); err != nil {
		v.t.Errorf("%s: others see a difference:\n%v", what, err)
	}
}

// end stops what runs and says whether anything was lost.
func (v *view) end() {
	v.t.Helper()
	counts, err := v.guard.Counts(v.ctx)
	if err != nil || counts.OutMatched == 0 || counts.InMatched == 0 || counts.OutSlipped+counts.InSlipped != 0 {
		v.t.Errorf("rules by the interface's name: %+v, %v", counts, err)
	}
	v.t.Logf("rules by the interface's name: %+v", counts)
	for name, s := range v.udp {
		st, err := s.Stop(v.ctx)
		if err != nil {
			v.t.Fatal(err)
		}
		if err := st.Err(); err != nil {
			v.t.Errorf("%s: %v", name, err)
		}
		v.t.Logf("%s: %d datagrams, %d lost, longest gap %s", name, st.Host.Sent+st.Guest.Sent, st.LostUp()+st.LostDown(), st.LongestGap())
	}
	st, err := v.tcp.Stop(v.ctx)
	if err != nil {
		v.t.Fatal(err)
	}
	if err := st.Err(); err != nil {
		v.t.Error(err)
	}
	v.t.Logf("TCP: longest gap %s", st.LongestGap())
	log := v.sh("cat /var/log/networkd")
	v.t.Logf("networkd:\n%s", log)
	if strings.Contains(log, "Lost carrier") || strings.Contains(log, "lease lost") || strings.Contains(log, "Link DOWN") || strings.Count(log, "acquired") != 1 {
		v.t.Error("networkd has noticed")
	}
	if r, err := v.Sh(v.ctx, "ps"); err == nil && !strings.Contains(string(r.Stdout), "systemd-networkd") {
		v.t.Errorf("networkd has ended:\n%s", r.Stdout)
	}
}
