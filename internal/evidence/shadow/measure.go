// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/lupatch/lupatch/internal/lab"
)

// measured is one row.
type measured struct {
	r                       one
	applied, refused, tried int
	open, packet            []time.Duration
	tcp                     *lab.StreamStats
	udp                     *lab.UDPStreamStats
	memory                  []int // after each way up and back, in kB
	faults                  []lab.Fault
	lockdep                 string
	remarks                 []string
	level                   int // versions above the shipped one
	down                    bool
}

// load are pollers and configuration: what the prototype of the shadow hung with once.
const load = `tc qdisc replace dev eth0 root tbf rate 100mbit burst 64kb latency 100ms 2>/dev/null
ip link add link eth0 name eth0.7 type vlan id 7 2>/dev/null && ip link set eth0.7 up
(while :; do ip -s link show eth0; cat /proc/net/dev; cat /sys/class/net/eth0/statistics/rx_packets; done >/dev/null 2>&1) &
(while :; do cat /sys/class/net/eth0/carrier /sys/class/net/eth0/speed /sys/class/net/eth0/queues/*/*; ip addr show eth0; done >/dev/null 2>&1) &
`

func (r *one) measure(ctx context.Context, o options) (*measured, error) {
	h, err := r.boot(ctx, o)
	if err != nil {
		return nil, err
	}
	defer h.Close()
	m := &measured{r: *r}
	if r.load {
		if _, err := h.sh(ctx, "("+load+") >/dev/null 2>&1"); err != nil {
			return nil, err
		}
	}
	tcp, err := h.StartStream(ctx, lab.StreamOptions{})
	if err != nil {
		return nil, err
	}
	udp, err := h.StartUDP(ctx, lab.StreamOptions{Block: 512, Interval: 10 * time.Millisecond})
	if err != nil {
		return nil, err
	}
	for m.tried < r.swaps {
		if err := m.swap(ctx, h); err != nil {
			return nil, fmt.Errorf("replacement %d: %w\n%s", m.tried, err, tail(h.Console()))
		}
		if m.level == 0 {
			m.memory = append(m.memory, h.memory(ctx))
		}
		fmt.Fprintf(os.Stderr, "%s %d\r", r.name, m.tried)
	}
	if m.udp, err = udp.Stop(ctx); err != nil {
		return nil, err
	}
	if m.tcp, err = tcp.Stop(ctx); err != nil {
		return nil, err
	}
	if r.debug {
		if m.lockdep, err = h.sh(ctx, "sed -n 's/^ *debug_locks: *//p' /proc/lockdep_stats"); err != nil {
			return nil, err
		}
	}
	if m.faults = h.Faults(); len(m.faults) > 0 {
		// Only to be looked at.
		fmt.Fprintf(os.Stderr, "%s\n", h.Console())
	}
	return m, nil
}

// growth is by how much the kernel uses more at the end than at the beginning, in kB.
// Buffers of the streams come and go by megabytes between any two samples, and the
// first replacements load what stays, such as caches: therefore the median of the last
// quarter less that of the second. Few samples say nothing.
func growth(samples []int) string {
	n := len(samples) / 4
	if n < 3 {
		return "-"
	}
	median := func(part []int) int { return slices.Sorted(slices.Values(part))[len(part)/2] }
	return strconv.Itoa(median(samples[len(samples)-n:]) - median(samples[n:2*n]))
}

func tail(console string) string {
	lines := strings.Split(console, "\n")
	return strings.Join(lines[max(0, len(lines)-60):], "\n")
}

// memory is what the kernel uses beyond files, in kB. Free pages that a processor keeps
// at hand, several megabytes, are not part of MemFree.
func (h *host) memory(ctx context.Context) int {
	out, err := h.sh(ctx, "echo 3 > /proc/sys/vm/drop_caches; awk '/^(MemFree|Buffers|Cached):/ {n += $2} / count:/ {n += 4 * $2} END {print n}' /proc/meminfo /proc/zoneinfo")
	if err != nil {
		return 0
	}
	n, _ := strconv.Atoi(out)
	return -n
}

// swap makes the next replacement: up through the versions, then back down. What is
// refused on the way up ends that; what is refused on the way down is tried again.
func (m *measured) swap(ctx context.Context, h *host) error {
	argv := []string{"rollback", "--yes", "--json", m.r.card.module}
	if m.level == 0 {
		m.down = false
	} else if m.level == len(h.files) {
		m.down = true
	}
	if !m.down {
		argv = []string{"apply", "--yes", "--json", "--probation", "0", "--untested-driver", h.files[m.level]}
	}
	m.tried++
	r, refused, err := h.command(ctx, argv...)
	if err != nil {
		return err
	}
	if refused != "" {
		m.refused++
		m.say(refused)
		m.down = true
		return nil
	}
	if m.down {
		m.level--
	} else {
		m.level++
	}
	m.applied++
	for _, d := range r.Devices {
		m.open = append(m.open, d.Reopened)
		if d.FirstPacket > 0 {
			m.packet = append(m.packet, d.FirstPacket)
		}
	}
	for _, w := range r.Warnings {
		if !strings.Contains(w, "nobody signed it") {
			m.say(w)
		}
	}
	return nil
}

// say keeps a remark, once.
func (m *measured) say(remark string) {
	if !slices.Contains(m.remarks, remark) {
		m.remarks = append(m.remarks, remark)
		fmt.Fprintf(os.Stderr, "%s %d: %s\n", m.r.name, m.tried, remark)
	}
}

func middle(list []time.Duration) (median, worst string) {
	if len(list) == 0 {
		return "-", "-"
	}
	s := slices.Sorted(slices.Values(list))
	return ms(s[len(s)/2]), ms(s[len(s)-1])
}

func ms(d time.Duration) string { return strconv.FormatInt(d.Milliseconds(), 10) }

func (m *measured) cells() []string {
	open, openWorst := middle(m.open)
	packet, packetWorst := middle(m.packet)
	wrong := "0"
	if err := m.tcp.Err(); err != nil {
		wrong = err.Error()
	}
	kernel, lockdep := release, "-"
	if m.r.debug {
		kernel, lockdep = "6.1.170 KASAN+PROVE_LOCKING", m.lockdep
	}
	faults := "0"
	if len(m.faults) > 0 {
		faults = fmt.Sprintf("%d: %s", len(m.faults), m.faults[0])
	}
	itoa := func(n int64) string { return strconv.FormatInt(n, 10) }
	return []string{m.r.name, m.r.card.module, kernel, strconv.Itoa(m.tried), strconv.Itoa(m.applied), strconv.Itoa(m.refused),
		open, openWorst, packet, packetWorst,
		itoa((m.tcp.BytesUp() + m.tcp.BytesDown()) >> 20), wrong, itoa(m.tcp.Guest.Retransmits), ms(m.tcp.LongestGap()),
		itoa(m.udp.Host.Sent + m.udp.Guest.Sent), itoa(m.udp.LostUp() + m.udp.LostDown()), ms(m.udp.LongestGap()),
		growth(m.memory), faults, lockdep, strings.Join(m.remarks, "; ")}
}
