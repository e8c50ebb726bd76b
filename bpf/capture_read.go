// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/ringbuf"
	"golang.org/x/sys/unix"
)

// Request is a configuration of a network device that was made by ioctl.
type Request struct {
	// Interface, Index and NetNS are its name, number and the inode of its network
	// namespace: of a Request that was kept those of now, as far as the watch
	// knows (Interface is the name at the time of the call); of one that is
	// followed those of the call. Index is 0 if there was no such interface.
	Interface string `json:"interface"`
	Index     int    `json:"ifindex"`
	NetNS     uint32 `json:"netns"`
	// Command is the ioctl's number, Setting which of those that the command sets:
	// the command of ethtool and, in the upper half, its tunable or sub-command;
	// the number of the PHY and, in the upper half, of its register. 0 otherwise.
	Command uint32 `json:"command"`
	Setting uint32 `json:"setting,omitempty"`
	// At is when it ended, Result what it gave: 0 or more, or a negative error.
	At     time.Time `json:"at"`
	Result int       `json:"result"`
	// Count is how many of these succeeded since the watch began, and Varied says
	// that they did not all carry the same.
	Count  uint64 `json:"count"`
	Varied bool   `json:"varied,omitempty"`
	// PID, UID and Comm are who asked.
	PID  int    `json:"pid"`
	UID  int    `json:"uid"`
	Comm string `json:"comm"`
	// Compat says that a 32-bit process asked.
	Compat bool `json:"compat,omitempty"`
	// Inline is what follows the name in struct ifreq, 24 bytes; Data what it
	// points to: up to 256 bytes, of which the driver may have read fewer. It is
	// empty if there was nothing to read there.
	Inline []byte `json:"inline"`
	Data   []byte `json:"data,omitempty"`
}

// Known is an interface that the watch has met.
type Known struct {
	Index int
	NetNS uint32
	// Registered is when it came; zero if it was there before the watch began.
	Registered time.Time
}

// The C side asserts the same numbers.
var (
	_ [16]struct{}  = [unsafe.Sizeof(captureCaptureKey{})]struct{}{}
	_ [360]struct{} = [unsafe.Sizeof(captureCaptureRequest{})]struct{}{}
	_ [16]struct{}  = [unsafe.Sizeof(captureCaptureInterface{})]struct{}{}
)

const (
	flagVaried = 1
	flagCompat = 2
)

// Captured gives what was kept: the latest request of each device and setting
// that succeeded, and the interfaces it knows. It needs root; ErrNotCapturing is
// in the chain of the error if the capture does not run.
func Captured() ([]Request, []Known, error) {
	latest, err := openPinned(pinLatest, int(unsafe.Sizeof(captureCaptureKey{})), int(unsafe.Sizeof(captureCaptureRequest{})))
	if err != nil {
		return nil, nil, err
	}
	defer latest.Close()
	interfaces, err := openPinned(pinInterfaces, 8, int(unsafe.Sizeof(captureCaptureInterface{})))
	if err != nil {
		return nil, nil, err
	}
	defer interfaces.Close()
	boot, err := bootTime()
	if err != nil {
		return nil, nil, err
	}
	known := map[uint64]Known{}
	var device uint64
	var i captureCaptureInterface
	it := interfaces.Iterate()
	for it.Next(&device, &i) {
		k := Known{Index: int(i.Ifindex), NetNS: i.Netns}
		if i.Registered > 0 {
			k.Registered = boot.Add(time.Duration(i.Registered))
		}
		known[device] = k
	}
	if err := complete(it); err != nil {
		return nil, nil, err
	}
	var out []Request
	var key captureCaptureKey
	var value captureCaptureRequest
	it = latest.Iterate()
	for it.Next(&key, &value) {
		r := request(&key, &value, boot)
		if k, ok := known[key.Device]; ok {
			r.Index, r.NetNS = k.Index, k.NetNS
		}
		out = append(out, r)
	}
	if err := complete(it); err != nil {
		return nil, nil, err
	}
	slices.SortFunc(out, func(a, b Request) int {
		return cmp.Or(cmp.Compare(a.NetNS, b.NetNS), cmp.Compare(a.Index, b.Index), cmp.Compare(a.Command, b.Command), cmp.Compare(a.Setting, b.Setting))
	})
	list := make([]Known, 0, len(known))
	for _, k := range known {
		list = append(list, k)
	}
	return out, list, nil
}

// complete says whether a map was read to its end. An entry that goes meanwhile
// may make the kernel begin again, which the iterator bounds.
func complete(it *ebpf.MapIterator) error {
	if err := it.Err(); err != nil {
		return fmt.Errorf("reading what was captured: %w", err)
	}
	return nil
}

// Follow calls f for every request as it ends, the failed ones too, until ctx
// ends. It works whether the capture runs or not: its programs are its own and go
// when it returns. It needs what StartCapture needs but for the BPF file system.
func Follow(ctx context.Context, f func(Request)) error {
	c, _, links, err := attachCapture(true)
	if err != nil {
		return fmt.Errorf("following configuration requests: %w", err)
	}
	defer c.Close()
	defer closeLinks(links)
	events, err := ringbuf.NewReader(c.Maps["events"])
	if err != nil {
		return fmt.Errorf("following configuration requests: %w", err)
	}
	defer events.Close()
	defer context.AfterFunc(ctx, func() { events.Close() })()
	boot, err := bootTime()
	if err != nil {
		return err
	}
	for {
		rec, err := events.Read()
		if errors.Is(err, os.ErrClosed) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("following configuration requests: %w", err)
		}
		var call captureCaptureCall
		if _, err := binary.Decode(rec.RawSample, binary.NativeEndian, &call); err != nil {
			return fmt.Errorf("following configuration requests: %w", err)
		}
		f(request(&call.Key, &call.Request, boot))
	}
}

func request(k *captureCaptureKey, v *captureCaptureRequest, boot time.Time) Request {
	return Request{
		Interface: text(v.Name), Index: int(v.Ifindex), NetNS: v.Netns,
		Command: k.Command, Setting: k.Setting,
		At: boot.Add(time.Duration(v.At)), Result: int(v.Result), Count: v.Count,
		Varied: v.Flags&flagVaried != 0, Compat: v.Flags&flagCompat != 0,
		PID: int(v.Pid), UID: int(v.Uid), Comm: text(v.Comm),
		Inline: slices.Clone(v.Inlined[:]), Data: slices.Clone(v.Data[:min(int(v.DataBytes), len(v.Data))]),
	}
}

// text is printable: names are chosen by users.
func text(c [16]int8) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return '?'
		}
		return r
	}, name(c))
}

// bootTime is when CLOCK_BOOTTIME was 0, by the clock of now.
func bootTime() (time.Time, error) {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		return time.Time{}, fmt.Errorf("reading the clock: %w", err)
	}
	return time.Now().Round(0).Add(-time.Duration(ts.Nano())), nil
}
