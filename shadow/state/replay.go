// SPDX-License-Identifier: Apache-2.0

package state

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/lupatch/lupatch/bpf"
)

// Replay puts back what differs from the state that was read, on the interface
// of now, which has to be open: drivers request their interrupts when they are
// opened. It goes on after something that it cannot put back, and returns all of
// that; nil if nothing is lost. It needs root.
func (s *State) Replay(ctx context.Context) []Loss {
	var losses []Loss
	err := s.Device.inside(func(name string) error {
		now := &State{}
		if err := now.read(ctx, name); err != nil {
			return err
		}
		losses = append(losses, s.replayAttributes(name, now)...)
		losses = append(losses, s.replayTimestamps(name, now)...)
		losses = append(losses, s.replayVectors(now)...)
		losses = append(losses, s.replayRequests()...)
		return nil
	})
	if err != nil {
		losses = append(losses, Loss{What: "the state of " + s.Device.Interface, Why: err.Error()})
	}
	return losses
}

// replayAttributes goes by the order of ofInterface and ofQueue within a queue.
func (s *State) replayAttributes(name string, now *State) (losses []Loss) {
	files := slices.SortedFunc(maps.Keys(s.Attributes), func(a, b string) int {
		return strings.Compare(queueOf(a), queueOf(b))*4 + sign(order(a)-order(b))
	})
	for _, f := range files {
		was, is := s.Attributes[f], now.Attributes[f]
		if was == is {
			continue
		}
		path := filepath.Join(class, name, f)
		if _, err := os.Stat(filepath.Dir(path)); errors.Is(err, os.ErrNotExist) {
			losses = append(losses, Loss{f, was, "", "there is no such queue any more"})
			continue
		}
		if err := os.WriteFile(path, []byte(was), 0); err != nil {
			losses = append(losses, Loss{f, was, is, err.Error()})
		}
	}
	return losses
}

// queueOf is the queue's folder; empty for the interface.
func queueOf(file string) string {
	if !strings.HasPrefix(file, "queues/") {
		return ""
	}
	return strings.Join(strings.SplitN(file, "/", 3)[:2], "/")
}

func order(file string) int {
	if q := queueOf(file); q != "" {
		return slices.Index(ofQueue, strings.TrimPrefix(file, q+"/"))
	}
	return slices.Index(ofInterface, file)
}

func sign(n int) int { return max(-1, min(1, n)) }

// replayTimestamps sets what was read; where the driver does not tell, what the
// capture saw last.
func (s *State) replayTimestamps(name string, now *State) []Loss {
	want := s.Timestamps
	if want == nil {
		if want = capturedTimestamps(s.Requests); want == nil {
			return nil
		}
	} else if now.Timestamps != nil && *want == *now.Timestamps {
		return nil
	}
	got := unix.HwTstampConfig{Flags: want.Flags, Tx_type: want.TX, Rx_filter: want.RX}
	err := withSocket(func(fd int) error { return unix.IoctlSetHwTstamp(fd, name, &got) })
	if err != nil {
		return []Loss{{"hwtstamp", want.String(), now.Timestamps.String(), err.Error()}}
	}
	// A driver may choose a filter that takes more, and says which.
	if is := (&Timestamps{got.Flags, got.Tx_type, got.Rx_filter}); s.Timestamps != nil && *is != *want {
		return []Loss{{"hwtstamp", want.String(), is.String(), "the driver chose something else"}}
	}
	return nil
}

func (s *State) replayVectors(now *State) (losses []Loss) {
	for _, v := range s.Vectors {
		n := match(v, s.Vectors, now.Vectors)
		if n == nil {
			losses = append(losses, Loss{v.String(), v.CPUs, "", "the device has fewer interrupts now"})
			continue
		}
		if n.CPUs == v.CPUs {
			continue
		}
		if err := setVector(n, v.CPUs); err != nil {
			losses = append(losses, Loss{v.String(), v.CPUs, n.CPUs, err.Error()})
		}
	}
	return losses
}

func capturedTimestamps(list []bpf.Request) *Timestamps {
	for _, r := range list {
		if r.Command == unix.SIOCSHWTSTAMP && len(r.Data) >= 12 {
			return &Timestamps{int32(native.Uint32(r.Data)), int32(native.Uint32(r.Data[4:])), int32(native.Uint32(r.Data[8:]))}
		}
	}
	return nil
}

// replayRequests makes no other request again: what a private one does only its
// driver knows, a register of a PHY may be written to start something, and what
// ethtool wrote into a memory of the device is still there.
func (s *State) replayRequests() (losses []Loss) {
	for _, r := range s.Requests {
		if r.Command != unix.SIOCSHWTSTAMP && !r.Stays() {
			losses = append(losses, Loss{What: r.Name(), Why: fmt.Sprintf("%s made this request at %s; it is not known to be harmless when made again", r.Comm, r.At.Format("2006-01-02 15:04:05"))})
		}
	}
	return losses
}
