// SPDX-License-Identifier: Apache-2.0

package outlook

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// section is one command and how its output is read.
type section struct {
	// name is for titles; empty: the command without " DEV".
	name    string
	command string // DEV stands for the interface
	// hardware: only interfaces that stand on a device have something to say.
	hardware bool
	// counter matches a line that is one: name, value.
	counter *regexp.Regexp
	// drop matches lines that change by themselves.
	drop *regexp.Regexp
	// normalise replaces what changes by itself within a line.
	normalise []replacement
	// sorted: the order of lines means nothing.
	sorted bool
	// parse reads counters from the whole text, which then has no state.
	parse func(text string) (map[string]uint64, error)
}

type replacement struct {
	expr *regexp.Regexp
	by   string
}

func replace(expr, by string) []replacement {
	return []replacement{{regexp.MustCompile(expr), by}}
}

func (s *section) title() string {
	if s.name != "" {
		return s.name
	}
	return devWord.ReplaceAllString(s.command, "")
}

var devWord = regexp.MustCompile(` (dev )?DEV\b`)

// reachable: an entry that is in use goes through these by time (RFC 4861, 7.3.2).
var reachable = replace(`\b(REACHABLE|STALE|DELAY|PROBE)\b`, "KNOWN")

// remaining are times that run down.
var remaining = replace(`\b(valid_lft|preferred_lft|expires) \d+sec`, "$1 some time")

// timers of a bridge and of its ports run down too.
var timers = replace(`(\w+_timer)(:|\s+)[\d.]+`, "$1 some time")

// crossover: where the card chooses, either is right, and the next look may see the other.
var crossover = replace(`(MDI-X: )(on|off|Unknown) (\(auto\))`, "$1$3")

var ethtoolCounter = regexp.MustCompile(`^\s*([^:]+): (\d+)$`)

// sysfs is read by one program: a process for each of some hundred attributes
// would take seconds. Names of files come first.
const sysfs = `grep -s '' $(find /sys/class/net/DEV/ -type f) /dev/null | sed s,^/sys/class/net/DEV/,,`

var perInterface = []section{
	{command: "ip -d addr show dev DEV", normalise: append(timers, remaining...)},
	{command: "ip -4 route show table all dev DEV", normalise: remaining, sorted: true},
	{command: "ip -6 route show table all dev DEV", normalise: remaining, sorted: true},
	{command: "ip neigh show dev DEV", normalise: reachable, sorted: true},
	{command: "ip maddr show dev DEV", sorted: true},
	{command: "tc -d qdisc show dev DEV"},
	{command: "tc class show dev DEV", sorted: true},
	{command: "tc filter show dev DEV"},
	{command: "tc -j -s qdisc show dev DEV", parse: qdiscCounters},
	{command: "bridge -d link show dev DEV", normalise: timers},
	{command: "bridge vlan show dev DEV"},
	{name: "bridge fdb", command: "bridge fdb show dev DEV | grep permanent", sorted: true},
	{name: "sysfs links", command: `find /sys/class/net/DEV/ -type l -exec sh -c 'for l; do echo "$l -> $(readlink $l)"; done' sh {} +`, sorted: true},
	{name: "sysfs", command: sysfs, sorted: true, normalise: timers,
		counter: regexp.MustCompile(`^((?:statistics/|queues/.*/tx_timeout|carrier_).*):(\d+)$`),
		// What the queue holds at the moment, what it has learned, the clocks of
		// power management, and a bridge's addresses with their ages.
		drop: regexp.MustCompile(`^queues/.*/byte_queue_limits/(inflight|limit|stall_\w+):|^power/.*_time:|^brforward:`)},
	{name: "/proc/net/dev", command: "grep -w DEV: /proc/net/dev", parse: devCounters},
	{name: "/proc/net/dev_mcast", command: "grep -w DEV /proc/net/dev_mcast", sorted: true},
	{hardware: true, command: "ethtool DEV", normalise: crossover},
	{hardware: true, command: "ethtool -a DEV"},
	{hardware: true, command: "ethtool -c DEV"},
	{hardware: true, command: "ethtool -e DEV"},
	{hardware: true, command: "ethtool -g DEV"},
	{hardware: true, command: "ethtool -i DEV"},
	{command: "ethtool -k DEV"},
	{hardware: true, command: "ethtool -l DEV"},
	{hardware: true, command: "ethtool -n DEV"},
	{hardware: true, command: "ethtool -P DEV"},
	{hardware: true, command: "ethtool -S DEV", counter: ethtoolCounter},
	{hardware: true, command: "ethtool -T DEV"},
	{hardware: true, command: "ethtool -x DEV"},
	{hardware: true, command: "ethtool --phy-statistics DEV", counter: ethtoolCounter},
	{hardware: true, command: "ethtool --show-eee DEV"},
	{hardware: true, command: "ethtool --show-fec DEV"},
	{hardware: true, command: "ethtool --show-priv-flags DEV"},
	{hardware: true, command: "ethtool --show-tunnels DEV"},
	{hardware: true, command: "ethtool --show-module DEV"},
}

var perHost = []section{
	{name: "interfaces", command: "ip -o link show | cut -d: -f1,2"},
	{command: "ip rule show"},
	{name: "bonds", command: "grep -s '' /proc/net/bonding/* /dev/null", counter: regexp.MustCompile(`^(.*Failure Count): (\d+)$`)},
	{name: "vlans", command: "cat /proc/net/vlan/config"},
	// The inode of a socket names it for as long as it lives.
	{name: "packet sockets", command: "awk '{print $3, $4, $5, $6, $9}' /proc/net/packet", sorted: true},
}

// qdiscCounters reads `tc -j -s qdisc`: of each queueing discipline what only
// grows, not what it holds at the moment.
func qdiscCounters(text string) (map[string]uint64, error) {
	var list []struct {
		Kind, Handle, Parent                        string
		Bytes, Packets, Drops, Overlimits, Requeues uint64
		DropOverlimit                               uint64 `json:"drop_overlimit"`
		NewFlowCount                                uint64 `json:"new_flow_count"`
	}
	if err := json.Unmarshal([]byte(text), &list); err != nil {
		return nil, err
	}
	counters := map[string]uint64{}
	for _, q := range list {
		for name, n := range map[string]uint64{"bytes": q.Bytes, "packets": q.Packets, "drops": q.Drops, "overlimits": q.Overlimits,
			"requeues": q.Requeues, "drop_overlimit": q.DropOverlimit, "new_flow_count": q.NewFlowCount} {
			counters[fmt.Sprintf("%s %s %s %s", q.Kind, q.Handle, q.Parent, name)] = n
		}
	}
	return counters, nil
}

var devLine = regexp.MustCompile(`(?m)^\s*\S+:\s*([\d ]+)$`)

// devCounters reads the line of an interface in /proc/net/dev.
func devCounters(text string) (map[string]uint64, error) {
	m := devLine.FindStringSubmatch(text)
	if m == nil {
		return nil, fmt.Errorf("%q is no line of /proc/net/dev", text)
	}
	counters := map[string]uint64{}
	for i, f := range strings.Fields(m[1]) {
		n, err := strconv.ParseUint(f, 10, 64)
		if err != nil {
			return nil, err
		}
		counters[fmt.Sprintf("column %d", i+1)] = n
	}
	return counters, nil
}
