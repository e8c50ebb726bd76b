// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"math"
	"os"
	"strconv"
	"time"

	"github.com/lupatch/lupatch/internal/lab"
)

// What the module costs while nothing is replaced: TCP without a pause goes through
// the card, and the module is loaded and unloaded by turns, in the order ABBA, so that
// what changes slowly on the machine that emulates is on both sides.
const (
	idlePairs    = 16
	idleInterval = 4 * time.Second
	// idleSettle is left out after the module comes or goes: the kernel rewrites
	// functions then, with all processors stopped.
	idleSettle = 500 * time.Millisecond
	// studentT is the 97.5th percentile for idlePairs-1 degrees of freedom.
	studentT = 2.131
)

func (r *one) measureIdle(ctx context.Context, o options) ([]string, error) {
	h, err := r.boot(ctx, o)
	if err != nil {
		return nil, err
	}
	defer h.Close()
	s, err := h.StartStream(ctx, lab.StreamOptions{Interval: -1})
	if err != nil {
		return nil, err
	}
	var ratios []float64
	for i := range idlePairs {
		rate := map[bool]float64{}
		for _, loaded := range []bool{i%2 == 0, i%2 != 0} {
			if rate[loaded], err = h.throughput(ctx, s, loaded); err != nil {
				return nil, err
			}
		}
		ratios = append(ratios, math.Log(rate[true]/rate[false]))
		fmt.Fprintf(os.Stderr, "%s: %.1f MB/s with it, %.1f without\n", r.name, rate[true]/1e6, rate[false]/1e6)
	}
	st, err := s.Stop(ctx)
	if err != nil {
		return nil, err
	}
	wrong := "0"
	if err := st.Err(); err != nil {
		wrong = err.Error()
	}
	middle, low, high := interval(ratios)
	faults := h.Faults()
	cells := make([]string, len(columns))
	for i := range cells {
		cells[i] = "-"
	}
	for name, value := range map[string]string{
		"run": r.name, "module": r.card.module, "kernel": release, "tcp_mb": strconv.FormatInt((st.BytesUp()+st.BytesDown())>>20, 10), "tcp_wrong": wrong,
		"tcp_retransmits": strconv.FormatInt(st.Guest.Retransmits, 10), "tcp_gap_ms": ms(st.LongestGap()), "faults": strconv.Itoa(len(faults)),
		"remark": fmt.Sprintf("TCP throughput with lupatch_shadow loaded / not: %.3f (95%%: %.3f to %.3f), %d pairs of %s", middle, low, high, idlePairs, idleInterval),
	} {
		cells[column(name)] = value
	}
	return cells, nil
}

func column(name string) int {
	for i, c := range columns {
		if c == name {
			return i
		}
	}
	panic("there is no column " + name)
}

// throughput is in bytes a second, both directions together.
func (h *host) throughput(ctx context.Context, s *lab.Stream, loaded bool) (float64, error) {
	// What is loaded twice, or is not there, stays as it is.
	script := "rmmod lupatch_shadow 2>/dev/null; ! grep -q ^lupatch_shadow /proc/modules"
	if loaded {
		script = "grep -q ^lupatch_shadow /proc/modules || insmod /root/lupatch_shadow.ko"
	}
	if _, err := h.sh(ctx, script); err != nil {
		return 0, err
	}
	if err := pause(ctx, idleSettle); err != nil {
		return 0, err
	}
	from, begin := s.Stats(), time.Now()
	if err := pause(ctx, idleInterval); err != nil {
		return 0, err
	}
	to, took := s.Stats(), time.Since(begin)
	return float64(to.BytesSent-from.BytesSent+to.BytesReceived-from.BytesReceived) / took.Seconds(), nil
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// interval gives the geometric mean of ratios, from their logarithms, and where it
// lies with 95 %.
func interval(logs []float64) (middle, low, high float64) {
	n := float64(len(logs))
	var sum, squares float64
	for _, l := range logs {
		sum += l
	}
	mean := sum / n
	for _, l := range logs {
		squares += (l - mean) * (l - mean)
	}
	half := studentT * math.Sqrt(squares/(n-1)/n)
	return math.Exp(mean), math.Exp(mean - half), math.Exp(mean + half)
}
