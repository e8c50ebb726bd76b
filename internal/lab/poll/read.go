// SPDX-License-Identifier: Apache-2.0

package poll

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

const sysNet = "/sys/class/net"

// steadyAttrs do not change unless somebody configures the interface, and are
// read without a lock.
var steadyAttrs = []string{"ifindex", "address", "mtu", "type", "dev_id", "tx_queue_len", "addr_len"}

func expect(name string) (e expectation, err error) {
	ifi, err := net.InterfaceByName(name)
	if err != nil {
		return e, err
	}
	e = expectation{name: name, index: ifi.Index, attrs: map[string]string{}}
	for _, attr := range steadyAttrs {
		text, err := os.ReadFile(filepath.Join(sysNet, name, attr))
		if err != nil {
			return e, err
		}
		e.attrs[attr] = string(text)
	}
	return e, nil
}

// checkSysfs reads attributes of each interface.
func checkSysfs(want []expectation) error {
	for _, e := range want {
		for attr, value := range e.attrs {
			got, err := os.ReadFile(filepath.Join(sysNet, e.name, attr))
			if err != nil {
				return err
			}
			if string(got) != value {
				return fmt.Errorf("%s of %s is %q, not %q", attr, e.name, got, value)
			}
		}
	}
	return nil
}

// checkFolders looks whether the interfaces are listed.
func checkFolders(want []expectation) error {
	entries, err := os.ReadDir(sysNet)
	if err != nil {
		return err
	}
	var have []string
	for _, d := range entries {
		have = append(have, d.Name())
	}
	for _, e := range want {
		if !slices.Contains(have, e.name) {
			return fmt.Errorf("%s is not listed: %q", e.name, have)
		}
	}
	return nil
}

// checkIoctl asks for names by index and for indexes by name (netdevice(7)).
func checkIoctl(want []expectation) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	for _, e := range want {
		// A name of the request is an answer here.
		ifr, err := unix.NewIfreq("")
		if err != nil {
			return err
		}
		ifr.SetUint32(uint32(e.index))
		if err := unix.IoctlIfreq(fd, unix.SIOCGIFNAME, ifr); err != nil {
			return fmt.Errorf("the name of interface %d: %w", e.index, err)
		}
		if ifr.Name() != e.name {
			return fmt.Errorf("interface %d is called %q, not %q", e.index, ifr.Name(), e.name)
		}
		if ifr, err = unix.NewIfreq(e.name); err != nil {
			return err
		}
		if err := unix.IoctlIfreq(fd, unix.SIOCGIFINDEX, ifr); err != nil {
			return fmt.Errorf("the index of %s: %w", e.name, err)
		}
		if int(ifr.Uint32()) != e.index {
			return fmt.Errorf("%s has the index %d, not %d", e.name, ifr.Uint32(), e.index)
		}
		if ifr, err = unix.NewIfreq(e.name); err != nil {
			return err
		}
		if err := unix.IoctlIfreq(fd, unix.SIOCGIFFLAGS, ifr); err != nil {
			return fmt.Errorf("the flags of %s: %w", e.name, err)
		}
		if ifr.Uint16()&unix.IFF_UP == 0 {
			return fmt.Errorf("%s is down", e.name)
		}
	}
	return nil
}

// counterReader remembers the last counters of /proc/net/dev.
type counterReader struct {
	last map[string][]uint64
}

// check reads /proc/net/dev once: as many lines as there were interfaces at the
// start, those of the named ones among them, and no counter below its last value.
func (r *counterReader) check(want []expectation, lines int) error {
	text, err := os.ReadFile("/proc/net/dev")
	if err != nil {
		return err
	}
	now, err := parseDev(string(text))
	if err != nil {
		return err
	}
	last := r.last
	r.last = now
	for _, e := range want {
		counters, ok := now[e.name]
		if !ok {
			return fmt.Errorf("%s is not in /proc/net/dev", e.name)
		}
		for i, v := range last[e.name] {
			if counters[i] < v {
				return fmt.Errorf("%s of %s went back from %d to %d", devColumns[i], e.name, v, counters[i])
			}
		}
	}
	if len(now) != lines {
		return fmt.Errorf("/proc/net/dev has %d interfaces, not %d", len(now), lines)
	}
	return nil
}

// devColumns are those of /proc/net/dev (proc(5)).
var devColumns = []string{
	"rx_bytes", "rx_packets", "rx_errs", "rx_drop", "rx_fifo", "rx_frame", "rx_compressed", "rx_multicast",
	"tx_bytes", "tx_packets", "tx_errs", "tx_drop", "tx_fifo", "tx_colls", "tx_carrier", "tx_compressed",
}

// parseDev reads /proc/net/dev: two lines of headings, then a line an interface.
func parseDev(text string) (map[string][]uint64, error) {
	all := map[string][]uint64{}
	for i, line := range strings.Split(strings.TrimSpace(text), "\n") {
		if i < 2 {
			continue
		}
		// A name has no blanks, but may have a colon.
		colon := strings.LastIndexByte(line, ':')
		if colon < 0 {
			return nil, fmt.Errorf("/proc/net/dev has the line %q", line)
		}
		fields := strings.Fields(line[colon+1:])
		if len(fields) != len(devColumns) {
			return nil, fmt.Errorf("/proc/net/dev has %d columns", len(fields))
		}
		var counters []uint64
		for _, f := range fields {
			n, err := strconv.ParseUint(f, 10, 64)
			if err != nil {
				return nil, fmt.Errorf("/proc/net/dev has %q where a number belongs", f)
			}
			counters = append(counters, n)
		}
		all[strings.TrimSpace(line[:colon])] = counters
	}
	return all, nil
}
