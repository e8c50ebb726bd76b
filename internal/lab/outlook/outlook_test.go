// SPDX-License-Identifier: Apache-2.0

package outlook

import (
	"strings"
	"testing"
)

func TestSplit(t *testing.T) {
	got := split("noise\n" + mark + "a: x\none\n\ntwo\n" + mark + "status 0\n\n" + mark + "b\nbad\n" + mark + "status 3\n")
	if got["a: x"] != "one\n\ntwo\n\n" || got["b"] != "bad\nstatus 3\n" {
		t.Errorf("got %q", got)
	}
}

// record reads texts as Take does.
func record(t *testing.T, texts map[string]string) *Outlook {
	t.Helper()
	o := &Outlook{State: map[string]string{}, Counters: map[string]uint64{}}
	for title, text := range texts {
		found := false
		for _, s := range append(append([]section(nil), perInterface...), perHost...) {
			if s.title() == title {
				o.add(title, s, text)
				found = true
			}
		}
		if !found {
			t.Fatalf("no section %s", title)
		}
	}
	return o
}

func TestDiff(t *testing.T) {
	base := map[string]string{
		"ip -d addr show":     "2: eth0: <UP> mtu 1500\n    inet 10.0.2.15/24\n       valid_lft 86390sec preferred_lft 86390sec\n",
		"ip neigh show":       "10.0.2.2 lladdr 52:55:0a:00:02:02 REACHABLE\n10.0.2.3 lladdr 52:55:0a:00:02:03 STALE\n",
		"ethtool -S":          "NIC statistics:\n     rx_packets: 10\n     tx_packets: 20\n",
		"ethtool -g":          "Ring parameters for eth0:\nRX:\t\t256\n",
		"sysfs":               "mtu:1500\nbridge/gc_timer:29123\nstatistics/rx_bytes:100\nqueues/tx-0/byte_queue_limits/inflight:7\npower/runtime_active_time:5\n",
		"/proc/net/dev":       "  eth0: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16\n",
		"tc -j -s qdisc show": `[{"kind":"fq_codel","handle":"0:","parent":":1","bytes":5,"packets":3,"backlog":9}]`,
	}
	with := func(title, old, new string) map[string]string {
		out := map[string]string{}
		for k, v := range base {
			out[k] = v
		}
		if !strings.Contains(out[title], old) {
			t.Fatalf("%s does not have %q", title, old)
		}
		out[title] = strings.Replace(out[title], old, new, 1)
		return out
	}
	before := record(t, base)
	for name, texts := range map[string]map[string]string{
		"the same":          base,
		"a lease ages":      with("ip -d addr show", "86390", "80000"),
		"a neighbour ages":  with("ip neigh show", "REACHABLE", "DELAY"),
		"lines by turns":    with("ip neigh show", base["ip neigh show"], "10.0.2.3 lladdr 52:55:0a:00:02:03 STALE\n10.0.2.2 lladdr 52:55:0a:00:02:02 PROBE\n"),
		"a counter grows":   with("ethtool -S", "rx_packets: 10", "rx_packets: 11"),
		"a queue fills":     with("sysfs", "inflight:7", "inflight:700"),
		"a bridge's timer":  with("sysfs", "gc_timer:29123", "gc_timer:0"),
		"time goes by":      with("sysfs", "active_time:5", "active_time:6"),
		"a queue's backlog": with("tc -j -s qdisc show", `"backlog":9`, `"backlog":0`),
		"bytes are counted": with("sysfs", "rx_bytes:100", "rx_bytes:101"),
	} {
		if err := Diff(before, record(t, texts)).Err(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, c := range map[string]struct {
		texts map[string]string
		want  string
	}{
		"address lost":         {with("ip -d addr show", "    inet 10.0.2.15/24\n", ""), `-["    inet 10.0.2.15/24"]`},
		"neighbour fails":      {with("ip neigh show", "REACHABLE", "FAILED"), `+["10.0.2.2 lladdr 52:55:0a:00:02:02 FAILED"]`},
		"other mtu":            {with("sysfs", "mtu:1500", "mtu:1400"), `sysfs: -["mtu:1500"] +["mtu:1400"]`},
		"rings":                {with("ethtool -g", "256", "512"), "ethtool -g"},
		"ethtool counter":      {with("ethtool -S", "rx_packets: 10", "rx_packets: 9"), "rx_packets: from 10 back to 9"},
		"ethtool counter gone": {with("ethtool -S", "     tx_packets: 20\n", ""), "tx_packets: gone, was 20"},
		"ethtool no more":      {with("ethtool -S", base["ethtool -S"], "no stats available\nstatus 94\n"), "status 94"},
		"sysfs counter":        {with("sysfs", "rx_bytes:100", "rx_bytes:0"), "from 100 back to 0"},
		"proc counter":         {with("/proc/net/dev", " 9 ", " 0 "), "column 9: from 9 back to 0"},
		"proc line gone":       {with("/proc/net/dev", base["/proc/net/dev"], "status 1\n"), "status 1"},
		"qdisc counter":        {with("tc -j -s qdisc show", `"packets":3`, `"packets":2`), "packets: from 3 back to 2"},
		"qdisc exchanged":      {with("tc -j -s qdisc show", `"fq_codel"`, `"noqueue"`), "gone, was 3"},
		"order of queues":      {with("ip -d addr show", base["ip -d addr show"], "    inet 10.0.2.15/24\n2: eth0: <UP> mtu 1500\n       valid_lft 1sec preferred_lft 1sec\n"), "order of lines"},
	} {
		changes := Diff(before, record(t, c.texts))
		if err := changes.Err(); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v", name, err)
		}
		var titles []string
		for title := range base {
			titles = append(titles, title)
		}
		if err := changes.Without(titles...).Err(); err != nil {
			t.Errorf("%s: left after all is known: %v", name, err)
		}
	}
}

func TestAlarming(t *testing.T) {
	e := &Events{
		IP: []string{
			`[LINK]2: eth0: <BROADCAST,MULTICAST,UP,LOWER_UP> mtu 1500 qdisc fq_codel state UP group default`,
			`[NEIGH]Deleted 10.0.2.3 dev eth0 lladdr 52:55:0a:00:02:03 STALE`,
			`[ADDR]2: eth0    inet 10.0.2.15/24 scope global eth0`,
		},
		Udev: []string{`KERNEL[1.0] change   /devices/pci0000:00/0000:00:03.0/net/eth0 (net)`},
	}
	if got := e.Alarming(); len(got) != 0 {
		t.Errorf("harmless: %q", got)
	}
	e = &Events{
		IP: []string{
			`[LINK]2: eth0: <NO-CARRIER,BROADCAST,MULTICAST,UP> mtu 1500 qdisc fq_codel state DOWN group default`,
			`[LINK]Deleted 2: eth0: <BROADCAST,MULTICAST> mtu 1500`,
			`[ADDR]Deleted 2: eth0    inet 10.0.2.15/24 scope global eth0`,
			`[ROUTE]Deleted 10.0.2.0/24 dev eth0 proto kernel scope link`,
		},
		Udev: []string{`KERNEL[1.0] remove   /devices/x/net/eth0 (net)`, `KERNEL[1.0] add      /devices/x/net/eth0 (net)`, `KERNEL[1.0] move     /devices/x/net/eth0 (net)`},
	}
	if got := e.Alarming(); len(got) != 7 {
		t.Errorf("only these are alarming: %q", got)
	}
}

func TestParseCounts(t *testing.T) {
	c := func(name, n string) string {
		return `{"rule":{"comment":"` + name + `","expr":[{"match":{"op":"=="}},{"counter":{"packets":` + n + `,"bytes":1}},{"accept":null}]}}`
	}
	good := `{"nftables":[{"metainfo":{"version":"1"}},` + c("out_matched", "5") + "," + c("out_slipped", "0") + "," + c("in_matched", "7") + "," + c("in_slipped", "1") + `]}`
	if got, err := parseCounts([]byte(good)); err != nil || got != (Counts{5, 0, 7, 1}) {
		t.Errorf("%+v, %v", got, err)
	}
	for _, bad := range []string{"", "{}", strings.Replace(good, "in_slipped", "other", 1)} {
		if _, err := parseCounts([]byte(bad)); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
}
