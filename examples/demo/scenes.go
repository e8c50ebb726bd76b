// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/lupatch/lupatch/internal/lab"
)

// scene is one update and what shows that it works.
type scene struct {
	name  string // of the patch and its update
	title string
	probe string // shell command in the guest
	// with has to be in the probe's output under the update and must not be
	// without it.
	with string
}

var scenes = []scene{
	{
		name: "meminfo-used", title: "The kernel itself: a new line in /proc/meminfo",
		probe: "head -n 4 /proc/meminfo", with: "MemUsed:",
	},
	{
		name: "e1000-mtu-limit", title: "A driver under load: e1000 refuses an MTU above 9000",
		probe: "(echo 9216 > /sys/class/net/eth0/mtu) 2>&1; cat /sys/class/net/eth0/mtu; echo 1500 > /sys/class/net/eth0/mtu; dmesg -c | grep 'MTU.*refused'", with: "Invalid argument",
	},
	{
		name: "two-units", title: "Kernel and driver in one update: new functions, new variables",
		probe: "ip link set eth0 promisc on; ip link set eth0 promisc off; tail -n 1 /proc/version; dmesg -c | grep 'receive mode'", with: "since the update",
	},
}

// play applies every update, shows what it does, and takes it back, while a
// checked stream runs through the card.
func play(ctx context.Context, s *screen, h *lab.Host, updates map[string]string) error {
	if _, err := h.WaitNetwork(ctx, "eth0"); err != nil {
		return err
	}
	stream, err := h.StartStream(ctx, lab.StreamOptions{})
	if err != nil {
		return err
	}
	s.line("a checked TCP stream runs through the e1000 from now on")
	for _, sc := range scenes {
		s.title("%s", sc.title)
		if err := sc.play(ctx, s, h, updates[sc.name]); err != nil {
			return fmt.Errorf("%s: %w", sc.name, err)
		}
	}
	s.title("The stream")
	st, err := stream.Stop(ctx)
	if err != nil {
		return err
	}
	if err := st.Err(); err != nil {
		return fmt.Errorf("the stream broke: %w", err)
	}
	s.line("%.1f MB out, %.1f MB in, every block checked, longest gap %.2f s, one connection throughout",
		float64(st.Guest.BytesSent)/1e6, float64(st.Guest.BytesReceived)/1e6, st.Guest.LongestGap.Seconds())
	if f := h.ConsoleFaults(); len(f) > 0 {
		return fmt.Errorf("the kernel complained: %s", strings.Join(f, "; "))
	}
	s.line("the kernel's console shows no warning")
	return nil
}

func (sc scene) play(ctx context.Context, s *screen, h *lab.Host, ko string) error {
	guest := "/root/" + sc.name + ".ko"
	if err := h.PutFile(ctx, ko, guest); err != nil {
		return err
	}
	if err := sc.check(ctx, s, h, false); err != nil {
		return err
	}
	start := time.Now()
	if err := s.command(ctx, h, "lupatch", "apply", "--probation", "2s", guest); err != nil {
		return err
	}
	s.line("applied in %.1f s", time.Since(start).Seconds())
	if err := sc.check(ctx, s, h, true); err != nil {
		return err
	}
	if err := s.command(ctx, h, "lupatch", "status"); err != nil {
		return err
	}
	start = time.Now()
	if err := s.command(ctx, h, "lupatch", "rollback", "--yes"); err != nil {
		return err
	}
	s.line("rolled back in %.1f s", time.Since(start).Seconds())
	if err := sc.check(ctx, s, h, false); err != nil {
		return err
	}
	return leftNothing(ctx, h)
}

// check runs the probe and holds its output against what should be seen.
func (sc scene) check(ctx context.Context, s *screen, h *lab.Host, patched bool) error {
	r, err := h.Sh(ctx, sc.probe)
	if err != nil {
		return err
	}
	out := string(r.Stdout) + string(r.Stderr)
	s.output(sc.probe, out)
	if strings.Contains(out, sc.with) != patched {
		return fmt.Errorf("with the update applied being %v, %q was expected to be %v in the output", patched, sc.with, patched)
	}
	return nil
}

// leftNothing asks the kernel whether an update is still enabled.
func leftNothing(ctx context.Context, h *lab.Host) error {
	r, err := h.Sh(ctx, "ls /sys/kernel/livepatch")
	if err != nil {
		return err
	}
	if left := strings.TrimSpace(string(r.Stdout)); left != "" {
		return fmt.Errorf("livepatches are left after the rollback: %s", left)
	}
	return nil
}

// tail is the end of a text.
func tail(text string, lines int) string {
	all := strings.Split(strings.TrimRight(text, "\n"), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}
