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

// State is what user space puts back. It can be kept as JSON, and another process
// can replay it.
type State struct {
	Device Device `json:"device"`
	// Vectors are the interrupts with the CPUs they go to.
	Vectors []Vector `json:"vectors,omitempty"`
	// Timestamps is the hardware time stamping in force (SIOCGHWTSTAMP); nil if the
	// driver has none or does not tell.
	Timestamps *Timestamps `json:"hwtstamp,omitempty"`
	// Attributes are files below /sys/class/net/NAME with their values: of the
	// interface, and of its queues (queues/tx-0/xps_cpus).
	Attributes map[string]string `json:"attributes,omitempty"`
	// Requests are those that the capture has kept (package bpf).
	Requests []bpf.Request `json:"requests,omitempty"`
}

// Timestamps is struct hwtstamp_config (include/uapi/linux/net_tstamp.h).
type Timestamps struct {
	Flags int32 `json:"flags,omitempty"`
	TX    int32 `json:"tx"`
	RX    int32 `json:"rx"`
}

// Loss is something that was not restored.
type Loss struct {
	// What it is, such as "vector 1 (eth0-rx-0)" or "queues/tx-0/xps_cpus".
	What string `json:"what"`
	// Was is the value before, Is the present one, if they are known.
	Was string `json:"was,omitempty"`
	Is  string `json:"is,omitempty"`
	// Why it could not be put back.
	Why string `json:"why"`
}

func (l Loss) String() string {
	s := l.What
	if l.Was != "" {
		s += " was " + l.Was
		if l.Is != "" {
			s += ", is " + l.Is
		}
	}
	return s + ": " + l.Why
}

// Files that are replayed (Documentation/ABI/testing/sysfs-class-net and -queues).
// The order matters: a flow table before the CPUs that use it. Not all are there
// on every kernel, and some queues' only if the device has several of them.
var (
	ofInterface = []string{"tx_queue_len", "gro_flush_timeout", "napi_defer_hard_irqs", "threaded"}
	ofQueue     = []string{"rps_flow_cnt", "rps_cpus", "xps_cpus", "xps_rxqs", "tx_maxrate",
		"byte_queue_limits/hold_time", "byte_queue_limits/limit_max", "byte_queue_limits/limit_min"}
)

// Read reads the state of an interface. It changes nothing. Some files are for
// root alone, and so is what was captured; without that it is read without them.
func Read(ctx context.Context, d Device) (*State, error) {
	s := &State{Device: d}
	var index string
	err := d.inside(func(name string) error {
		index = attribute(filepath.Join(class, name, "ifindex"))
		return s.read(ctx, name)
	})
	if err == nil {
		s.Requests, err = captured(d.NetNS, index)
	}
	if err != nil {
		return nil, fmt.Errorf("reading the state of %s: %w", d.Interface, err)
	}
	return s, nil
}

// read reads what the interface itself tells, in its namespace.
func (s *State) read(ctx context.Context, name string) (err error) {
	if err := ctx.Err(); err != nil {
		return err
	}
	if s.Vectors, err = vectors(name); err != nil {
		return err
	}
	if s.Timestamps, err = timestamps(name); err != nil {
		return err
	}
	s.Attributes, err = attributes(name)
	return err
}

func captured(netns uint32, index string) ([]bpf.Request, error) {
	all, _, err := bpf.Captured()
	if errors.Is(err, bpf.ErrNotCapturing) || errors.Is(err, os.ErrPermission) {
		return nil, nil
	}
	return slices.DeleteFunc(all, func(r bpf.Request) bool {
		return r.NetNS != netns || fmt.Sprint(r.Index) != index
	}), err
}

func attributes(name string) (map[string]string, error) {
	out := map[string]string{}
	dir := filepath.Join(class, name)
	read := func(file string) {
		if v := attribute(filepath.Join(dir, file)); v != "" {
			out[file] = v
		}
	}
	for _, a := range ofInterface {
		read(a)
	}
	queues, err := os.ReadDir(filepath.Join(dir, "queues"))
	if err != nil {
		return nil, err
	}
	for _, q := range queues {
		for _, a := range ofQueue {
			read(filepath.Join("queues", q.Name(), a))
		}
	}
	return out, nil
}

// timestamps is nil where the driver does not have them or cannot tell.
func timestamps(name string) (*Timestamps, error) {
	var out *Timestamps
	err := withSocket(func(fd int) error {
		c, err := unix.IoctlGetHwTstamp(fd, name)
		if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOTTY) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("reading the time stamping: %w", err)
		}
		out = &Timestamps{c.Flags, c.Tx_type, c.Rx_filter}
		return nil
	})
	return out, err
}

// withSocket opens a socket in the namespace of the calling thread.
func withSocket(f func(fd int) error) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("opening a socket: %w", err)
	}
	defer unix.Close(fd)
	return f(fd)
}

// Diff lists what differs between two states of an interface. Numbers of
// interrupts do not count.
func Diff(a, b *State) []Difference {
	var out []Difference
	for _, v := range a.Vectors {
		n := match(v, a.Vectors, b.Vectors)
		switch {
		case n == nil:
			out = append(out, Difference{Setting: "vectors", Field: v.String(), Before: v.CPUs})
		case n.CPUs != v.CPUs:
			out = append(out, Difference{Setting: "vectors", Field: v.String(), Before: v.CPUs, After: n.CPUs})
		}
	}
	if len(b.Vectors) > len(a.Vectors) {
		out = append(out, Difference{Setting: "vectors", Field: "count", Before: fmt.Sprint(len(a.Vectors)), After: fmt.Sprint(len(b.Vectors))})
	}
	if x, y := a.Timestamps.String(), b.Timestamps.String(); x != y {
		out = append(out, Difference{Setting: "hwtstamp", Field: "config", Before: x, After: y})
	}
	keys := slices.Sorted(maps.Keys(a.Attributes))
	for k := range b.Attributes {
		if _, ok := a.Attributes[k]; !ok {
			keys = append(keys, k)
		}
	}
	slices.Sort(keys)
	for _, k := range keys {
		if x, y := a.Attributes[k], b.Attributes[k]; x != y {
			out = append(out, Difference{Setting: "attributes", Field: k, Before: x, After: y})
		}
	}
	return out
}

func (v Vector) String() string {
	if v.Action == "" {
		return fmt.Sprintf("vector %d", v.Index)
	}
	return fmt.Sprintf("vector %d (%s)", v.Index, strings.ToValidUTF8(v.Action, "?"))
}

func (t *Timestamps) String() string {
	if t == nil {
		return ""
	}
	return fmt.Sprintf("tx %d rx %d flags %d", t.TX, t.RX, t.Flags)
}
