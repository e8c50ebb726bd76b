// SPDX-License-Identifier: Apache-2.0

package outlook

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"syscall"
	"time"

	"github.com/lupatch/lupatch/internal/lab"
)

// Watch records what `ip monitor` and `udevadm monitor` say.
type Watch struct {
	h       *lab.Host
	ip, dev *lab.Process
}

// Events are what was said between Watch and Stop.
type Events struct {
	// IP are the lines of `ip monitor label all`, Udev those of
	// `udevadm monitor --kernel`, without the ones that Watch itself causes.
	IP   []string `json:"ip"`
	Udev []string `json:"udev"`
}

// The marks are events of the loopback interface that nobody else causes: an
// address that comes and goes, and an event written by hand
// (Documentation/ABI/testing/sysfs-uevent). Both monitors pass events on in
// order, so that what came before a mark has been seen when the mark has.
const (
	markStart = "127.108.112.1"
	markEnd   = "127.108.112.2"
	markUdev  = "/devices/virtual/net/lo "
)

// StartWatch begins to record, and returns when both monitors are listening.
func StartWatch(ctx context.Context, h *lab.Host) (*Watch, error) {
	w := &Watch{h: h}
	var err error
	if w.ip, err = h.Start(ctx, lab.Cmd{Argv: []string{"ip", "-o", "monitor", "label", "all"}, Timeout: -1}); err == nil {
		w.dev, err = h.Start(ctx, lab.Cmd{Argv: []string{"udevadm", "monitor", "--kernel", "--subsystem-match=net"}, Timeout: -1})
	}
	if err == nil {
		err = w.await(ctx, markStart, 1)
	}
	if err != nil {
		w.end(ctx)
		return nil, fmt.Errorf("watching the lab host's events: %w", err)
	}
	return w, nil
}

// await causes marks until both monitors have seen one more than before.
func (w *Watch) await(ctx context.Context, address string, n int) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for {
		r, err := w.h.Sh(ctx, "ip addr add "+address+"/32 dev lo; ip addr del "+address+"/32 dev lo; echo change > /sys/class/net/lo/uevent")
		if err != nil {
			return err
		}
		if r.Code != 0 {
			return fmt.Errorf("status %d: %s", r.Code, r.Stderr)
		}
		again := time.After(time.Second)
		tick := time.NewTicker(10 * time.Millisecond)
		for waiting := true; waiting; {
			ip, _ := w.ip.Output()
			dev, _ := w.dev.Output()
			if strings.Contains(string(ip), address) && strings.Count(string(dev), markUdev) >= n {
				tick.Stop()
				return nil
			}
			select {
			case <-tick.C:
			case <-again:
				waiting = false
			case <-w.ip.Done():
				return errors.New("ip monitor has ended")
			case <-w.dev.Done():
				return errors.New("udevadm monitor has ended")
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		tick.Stop()
	}
}

func (w *Watch) end(ctx context.Context) {
	for _, p := range []*lab.Process{w.ip, w.dev} {
		if p != nil {
			_ = p.Kill(ctx, syscall.SIGTERM)
			_, _ = p.Wait(ctx)
		}
	}
}

// Stop ends the watch when all that has happened so far has been seen.
func (w *Watch) Stop(ctx context.Context) (*Events, error) {
	dev, _ := w.dev.Output()
	err := w.await(ctx, markEnd, strings.Count(string(dev), markUdev)+1)
	w.end(ctx)
	if err != nil {
		return nil, fmt.Errorf("watching the lab host's events: %w", err)
	}
	ip, _ := w.ip.Output()
	dev, _ = w.dev.Output()
	e := &Events{}
	for line := range strings.Lines(string(ip)) {
		if line = strings.TrimSpace(line); line != "" && !strings.Contains(line, "127.108.112.") {
			e.IP = append(e.IP, line)
		}
	}
	for line := range strings.Lines(string(dev)) {
		if strings.HasPrefix(line, "KERNEL[") && !strings.Contains(line, markUdev) {
			e.Udev = append(e.Udev, strings.TrimSpace(line))
		}
	}
	return e, nil
}

// linkGone matches events of a link that went down or away.
var (
	linkGone = regexp.MustCompile(`^\[(LINK|ADDR|ROUTE)\]\s*Deleted |^\[LINK\].*(NO-CARRIER|state (DOWN|LOWERLAYERDOWN|NOTPRESENT))`)
	devGone  = regexp.MustCompile(`^KERNEL\[\S+\] (remove|add|move|unbind|offline) `)
)

// Alarming are the events that say that an interface, an address or a route went
// down or away, or that a device came or went.
func (e *Events) Alarming() []string {
	var out []string
	for _, line := range e.IP {
		if linkGone.MatchString(line) {
			out = append(out, line)
		}
	}
	for _, line := range e.Udev {
		if devGone.MatchString(line) {
			out = append(out, line)
		}
	}
	return out
}
