// SPDX-License-Identifier: Apache-2.0

package compat

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// Of include/uapi/linux/sock_diag.h and xdp_diag.h.
const (
	sockDiagByFamily = 20
	xdpShowInfo      = 1
	xdpDiagInfo      = 0
	sizeofXDPReq     = 20
	sizeofXDPMsg     = 16
)

// xdpSockets counts the AF_XDP sockets bound to the devices, in the namespace of the
// calling thread. The kernel is asked, which may load a module for it, only if there
// are such sockets at all.
func xdpSockets(links []Link) error {
	n, err := xdpProtocol()
	if err != nil || n == 0 {
		return err
	}
	bound, err := askXDP()
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EOPNOTSUPP) {
		for i := range links {
			links[i].Sockets = -1
		}
		return nil
	}
	if err != nil {
		return fmt.Errorf("listing AF_XDP sockets: %w", err)
	}
	for i := range links {
		links[i].Sockets = bound[links[i].Index]
	}
	return nil
}

// xdpProtocol reads how many AF_XDP sockets there are: /proc/net/protocols has the
// name, a size and the number.
func xdpProtocol() (int, error) {
	text, err := os.ReadFile("/proc/thread-self/net/protocols")
	if err != nil {
		return 0, fmt.Errorf("counting AF_XDP sockets: %w", err)
	}
	for line := range strings.Lines(string(text)) {
		if w := strings.Fields(line); len(w) > 2 && w[0] == "XDP" {
			return strconv.Atoi(w[2])
		}
	}
	return 0, nil
}

// askXDP counts AF_XDP sockets by the number of the device that they are bound to.
func askXDP() (map[uint32]int, error) {
	c, err := netlink.Dial(unix.NETLINK_SOCK_DIAG, nil)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	req := make([]byte, sizeofXDPReq)
	req[0] = unix.AF_XDP
	native.PutUint32(req[8:], xdpShowInfo)
	msgs, err := c.Execute(netlink.Message{
		Header: netlink.Header{Type: sockDiagByFamily, Flags: netlink.Request | netlink.Dump}, Data: req,
	})
	if err != nil {
		return nil, err
	}
	out := map[uint32]int{}
	for _, m := range msgs {
		if len(m.Data) < sizeofXDPMsg {
			return nil, fmt.Errorf("a message of %d bytes", len(m.Data))
		}
		ad, err := netlink.NewAttributeDecoder(m.Data[sizeofXDPMsg:])
		if err != nil {
			return nil, err
		}
		for ad.Next() {
			// struct xdp_diag_info: the device's number, the queue's.
			if b := ad.Bytes(); ad.Type() == xdpDiagInfo && len(b) >= 8 {
				out[native.Uint32(b)]++
			}
		}
		if err := ad.Err(); err != nil {
			return nil, err
		}
	}
	return out, nil
}
