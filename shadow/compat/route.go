// SPDX-License-Identifier: Apache-2.0

package compat

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// routeTo names the network device over which the kernel would send to an address,
// in the namespace of the calling thread; empty if there is no way.
func routeTo(to netip.Addr) (string, error) {
	c, err := netlink.Dial(unix.NETLINK_ROUTE, nil)
	if err != nil {
		return "", fmt.Errorf("opening a netlink socket: %w", err)
	}
	defer c.Close()
	ae := netlink.NewAttributeEncoder()
	ae.Bytes(unix.RTA_DST, to.AsSlice())
	attrs, err := ae.Encode()
	if err != nil {
		return "", err
	}
	req := make([]byte, unix.SizeofRtMsg)
	req[0], req[1] = unix.AF_INET, uint8(to.BitLen())
	if to.Is6() {
		req[0] = unix.AF_INET6
	}
	msgs, err := c.Execute(netlink.Message{
		Header: netlink.Header{Type: unix.RTM_GETROUTE, Flags: netlink.Request}, Data: append(req, attrs...),
	})
	if errors.Is(err, unix.ENETUNREACH) || errors.Is(err, unix.EHOSTUNREACH) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("asking for the route to %s: %w", to, err)
	}
	for _, m := range msgs {
		if len(m.Data) < unix.SizeofRtMsg {
			continue
		}
		ad, err := netlink.NewAttributeDecoder(m.Data[unix.SizeofRtMsg:])
		if err != nil {
			return "", err
		}
		for ad.Next() {
			if ad.Type() != unix.RTA_OIF {
				continue
			}
			dev, err := net.InterfaceByIndex(int(ad.Uint32()))
			if err != nil {
				return "", fmt.Errorf("asking for the route to %s: %w", to, err)
			}
			return dev.Name, nil
		}
		if err := ad.Err(); err != nil {
			return "", err
		}
	}
	return "", nil
}
