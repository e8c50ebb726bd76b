// SPDX-License-Identifier: Apache-2.0

package state

import (
	"errors"
	"fmt"
	"runtime"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// byIoctl reads what ethtool's netlink does not have on 6.1.
var byIoctl = map[string]func(fd int, name string) (map[string]string, error){
	"receive-side scaling": readScaling,
	"hash fields":          readHashFields,
	"flow rules":           readRules,
}

// Commands and layouts of include/uapi/linux/ethtool.h.
const (
	getHashFields = 0x29 // ETHTOOL_GRXFH
	countRules    = 0x2e // ETHTOOL_GRXCLSRLCNT
	getRule       = 0x2f // ETHTOOL_GRXCLSRULE
	listRules     = 0x30 // ETHTOOL_GRXCLSRLALL
	getScaling    = 0x46 // ETHTOOL_GRSSH

	scalingSize = 24  // struct ethtool_rxfh without its table and key
	rulesSize   = 192 // struct ethtool_rxnfc without its list
	specAt      = 16  // struct ethtool_rx_flow_spec within it
	specSize    = 168
	locationAt  = specAt + 160
	countAt     = specAt + specSize
	listAt      = countAt + 4
)

// Bounds on what a driver may claim.
const (
	mostEntries = 1 << 16
	mostKey     = 1 << 10
	mostRules   = 1 << 14
)

// request makes one of ethtool's requests; the buffer has its number first.
func request(fd int, name string, buf []byte) error {
	if len(name) >= unix.IFNAMSIZ {
		return unix.ENODEV
	}
	var ifr struct {
		name [unix.IFNAMSIZ]byte
		data unsafe.Pointer
		_    [16]byte
	}
	copy(ifr.name[:], name)
	ifr.data = unsafe.Pointer(&buf[0])
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&ifr)))
	runtime.KeepAlive(buf)
	if errno != 0 {
		return errno
	}
	return nil
}

// readScaling reads hash function, key and indirection table of the default
// context. Others cannot be listed before 6.11.
func readScaling(fd int, name string) (map[string]string, error) {
	head := make([]byte, scalingSize)
	native.PutUint32(head, getScaling)
	if err := request(fd, name, head); err != nil {
		return nil, err
	}
	entries, key := native.Uint32(head[8:]), native.Uint32(head[12:])
	if entries > mostEntries || key > mostKey {
		return nil, fmt.Errorf("a table of %d entries and a key of %d bytes", entries, key)
	}
	buf := make([]byte, scalingSize+4*int(entries)+int(key))
	native.PutUint32(buf, getScaling)
	native.PutUint32(buf[8:], entries)
	native.PutUint32(buf[12:], key)
	if err := request(fd, name, buf); err != nil {
		return nil, err
	}
	var table strings.Builder
	for i := range int(entries) {
		if i > 0 {
			table.WriteByte(' ')
		}
		fmt.Fprint(&table, native.Uint32(buf[scalingSize+4*i:]))
	}
	return map[string]string{
		"function": fmt.Sprint(buf[16]), "transform": fmt.Sprint(buf[17]),
		"table": table.String(), "key": digest(buf[scalingSize+4*int(entries):]),
	}, nil
}

// flowTypes are those that a hash may be chosen for (TCP_V4_FLOW and the like).
var flowTypes = map[string]uint32{"tcp4": 1, "udp4": 2, "sctp4": 3, "ah4": 4, "tcp6": 5, "udp6": 6, "sctp6": 7, "ah6": 8}

func readHashFields(fd int, name string) (map[string]string, error) {
	out := map[string]string{}
	for flow, number := range flowTypes {
		buf := make([]byte, rulesSize)
		native.PutUint32(buf, getHashFields)
		native.PutUint32(buf[4:], number)
		err := request(fd, name, buf)
		if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EINVAL) {
			continue // not this type
		}
		if err != nil {
			return nil, err
		}
		out[flow] = fmt.Sprintf("%#x", native.Uint64(buf[8:]))
	}
	return out, nil
}

// readRules gives each rule as the bytes of its specification, by location.
func readRules(fd int, name string) (map[string]string, error) {
	head := make([]byte, rulesSize)
	native.PutUint32(head, countRules)
	if err := request(fd, name, head); err != nil {
		return nil, err
	}
	n := native.Uint32(head[countAt:])
	if n > mostRules {
		return nil, fmt.Errorf("%d flow rules", n)
	}
	if n == 0 {
		return nil, nil
	}
	buf := make([]byte, rulesSize+4*int(n))
	native.PutUint32(buf, listRules)
	native.PutUint32(buf[countAt:], n)
	if err := request(fd, name, buf); err != nil {
		return nil, err
	}
	out := map[string]string{}
	for i := range int(min(n, native.Uint32(buf[countAt:]))) {
		location := native.Uint32(buf[listAt+4*i:])
		rule := make([]byte, rulesSize)
		native.PutUint32(rule, getRule)
		native.PutUint32(rule[locationAt:], location)
		if err := request(fd, name, rule); err != nil {
			return nil, fmt.Errorf("rule %d: %w", location, err)
		}
		out[fmt.Sprintf("rule %d", location)] = fmt.Sprintf("%x", rule[specAt:specAt+specSize])
	}
	return out, nil
}
