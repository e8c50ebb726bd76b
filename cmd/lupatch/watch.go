// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/cilium/ebpf"
	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/urfave/cli/v2"

	"github.com/lupatch/lupatch/bpf"
	"github.com/lupatch/lupatch/internal/refuse"
)

// capture is the capture of a host: that of package bpf.
type capture struct {
	start  func() error
	stop   func(context.Context) error
	state  func() (*bpf.Capturing, error)
	read   func() ([]bpf.Request, []bpf.Known, error)
	follow func(context.Context, func(bpf.Request)) error
}

var captureOfKernel = capture{bpf.StartCapture, bpf.StopCapture, bpf.CaptureState, bpf.Captured, bpf.Follow}

// watched is what watch prints.
type watched struct {
	// Whether the capture runs, and where.
	Capture *bpf.Capturing `json:"capture"`
	// What it has kept: the latest request of each device and setting that succeeded.
	Captured []captured `json:"captured,omitempty"`
}

// captured is a request with its name.
type captured struct {
	// What was asked for, in words.
	Name string `json:"name"`
	bpf.Request
}

func (h *host) watchCommand() *cli.Command {
	return &cli.Command{
		Name:  "watch",
		Usage: "keep what configures network drivers and cannot be read back",
		Description: `A driver that is replaced loses what it was told and does not tell again: private
ioctls, registers of a PHY, time stamping. With --start the kernel itself keeps the
latest request of each device and setting, so that a later replacement knows them;
no process has to run for it. Small programs are attached to functions of the
network core for that, none of which a packet passes, and none of a driver, so that
its module is not held. They are gone after --stop, or a reboot.

Without options it shows whether that is on, and what was kept. What a request
points to is kept as well, up to 256 bytes of the caller's memory: root can read it.
Needs root, Linux 5.13 with BTF, and the BPF file system. Under
lockdown=confidentiality only what a request itself holds is seen.

Examples:
   lupatch watch --start
   lupatch watch                      what was kept?
   lupatch watch --follow             every request as it comes, until ^C; nothing is kept
   lupatch watch --json | jq -r '.captured[].name'
   lupatch watch --stop               forgets what was kept`,
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "start", Usage: "begin; nothing changes if it has begun"},
			&cli.BoolFlag{Name: "stop", Usage: "end, and forget; nothing changes if it has ended"},
			&cli.BoolFlag{Name: "follow", Usage: "print requests as they come; with --json one object a line"},
			jsonFlag,
		},
		Action: func(c *cli.Context) error {
			chosen := 0
			for _, f := range []string{"start", "stop", "follow"} {
				if c.Bool(f) {
					chosen++
				}
			}
			if c.Args().Present() {
				return &usageError{"watch takes no arguments", "watch"}
			}
			if chosen > 1 {
				return &usageError{"--start, --stop and --follow exclude each other", "watch"}
			}
			if c.Bool("follow") {
				return refusedCapture(h.follow(c.Context, c.Bool("json")))
			}
			if err := h.startOrStop(c.Context, c.Bool("start"), c.Bool("stop")); err != nil {
				return refusedCapture(err)
			}
			w, err := h.watched()
			if err != nil {
				return refusedCapture(err)
			}
			if c.Bool("json") {
				return printJSON(h.out, w)
			}
			printWatched(h.out, w)
			return nil
		},
	}
}

// startOrStop mends a capture that was started half way.
func (h *host) startOrStop(ctx context.Context, start, stop bool) error {
	if start {
		s, err := h.capture.state()
		if err != nil {
			return err
		}
		if s.On && len(s.Missing) > 0 {
			stop = true
		}
	}
	if stop {
		ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
		defer cancel()
		if err := h.capture.stop(ctx); err != nil && !errors.Is(err, bpf.ErrNotCapturing) {
			return err
		}
	}
	if start {
		if err := h.capture.start(); err != nil && !errors.Is(err, bpf.ErrCapturing) {
			return err
		}
	}
	return nil
}

func (h *host) watched() (*watched, error) {
	s, err := h.capture.state()
	if err != nil {
		return nil, err
	}
	w := &watched{Capture: s}
	list, _, err := h.capture.read()
	if err != nil && !errors.Is(err, bpf.ErrNotCapturing) {
		return nil, err
	}
	for _, r := range list {
		w.Captured = append(w.Captured, captured{r.Name(), r})
	}
	return w, nil
}

// refusedCapture makes a refusal of what the kernel or the user cannot do.
func refusedCapture(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, bpf.ErrNotMounted):
		return &refuse.Error{ID: refuse.NoCapture, Detail: err.Error(), Remedy: "mount -t bpf bpf " + bpf.Mount}
	case errors.Is(err, bpf.ErrForeignCapture):
		return &refuse.Error{ID: refuse.NoCapture, Detail: err.Error(), Remedy: "`lupatch watch --stop`, then `lupatch watch --start`; what was kept is lost"}
	case errors.Is(err, ebpf.ErrNotSupported):
		return refuse.New(refuse.NoCapture, "", "%s", err)
	case errors.Is(err, os.ErrPermission):
		return &refuse.Error{ID: refuse.NotPermitted, Detail: err.Error(), Remedy: "run it as root, outside of containers"}
	}
	return err
}

func (h *host) follow(ctx context.Context, asJSON bool) error {
	enc := json.NewEncoder(h.out)
	enc.SetEscapeHTML(false)
	return h.capture.follow(ctx, func(r bpf.Request) {
		if asJSON {
			_ = enc.Encode(captured{r.Name(), r})
			return
		}
		ended := "done"
		if r.Result < 0 {
			ended = fmt.Sprintf("error %d", -r.Result)
		}
		fmt.Fprintf(h.out, "%s %s: %s by %s (%d): %s %s\n", r.At.Format("15:04:05.000"), r.Interface, r.Name(), r.Comm, r.PID, value(&r), ended)
	})
}

func printWatched(out io.Writer, w *watched) {
	if !w.Capture.On {
		fmt.Fprintln(out, "nothing is watched; `lupatch watch --start` begins")
		return
	}
	var at []string
	for _, h := range w.Capture.Attached {
		at = append(at, h.Function+" ("+h.At+")")
	}
	fmt.Fprintf(out, "watched: %s\n", strings.Join(at, ", "))
	for _, h := range w.Capture.Missing {
		fmt.Fprintf(out, "not watched, though it should be: %s (%s); `lupatch watch --start` mends that\n", h.Function, h.At)
	}
	if w.Capture.NoData {
		fmt.Fprintln(out, "the kernel is locked down: what requests point to is not seen, nor ethtool's requests")
	}
	if n := w.Capture.Lost; n > 0 {
		fmt.Fprintf(out, "%s found no room\n", count(int(n), "request"))
	}
	if len(w.Captured) == 0 {
		fmt.Fprintln(out, "nothing was captured")
		return
	}
	t := newTable(out, "interface", "request", "value", "times", "last by", "at")
	for _, c := range w.Captured {
		times := fmt.Sprint(c.Count)
		if c.Varied {
			times += ", differing"
		}
		t.AppendRow(table.Row{c.Interface, c.Name, value(&c.Request), times, fmt.Sprintf("%s (%d)", c.Comm, c.PID), ago(c.At)})
	}
	t.Render()
}

// value is the beginning of what a request carries.
func value(r *bpf.Request) string {
	const shown = 16
	b := r.Data
	if len(b) == 0 {
		b = r.Inline
	}
	if len(b) > shown {
		return fmt.Sprintf("%x…", b[:shown])
	}
	return fmt.Sprintf("%x", b)
}
