// SPDX-License-Identifier: Apache-2.0

package compat

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/lupatch/lupatch/internal/netns"
	"github.com/lupatch/lupatch/internal/refuse"
)

// Link is a network device of a driver.
type Link struct {
	Name string
	// Index is its number in its network namespace.
	Index uint32
	// Namespace is where it is.
	Namespace netns.Namespace
	// Device is that below /sys/bus/BUS/devices.
	Device string
	// XDP says where a program is attached: driver, hardware, or several places.
	XDP string
	// Sockets counts AF_XDP sockets bound to it; -1 if there are some in its
	// namespace and the kernel does not say whose.
	Sockets int
	// Offloads are what traffic control has given to the hardware.
	Offloads []string
	// Keys are features that are switched on and keep keys in the driver.
	Keys []string
}

// iflaXDPMode is IFLA_XDP_ATTACHED of include/uapi/linux/if_link.h.
const iflaXDPMode = 2

// links finds the network devices of some devices in all namespaces.
func links(ctx context.Context, devices []Device) (out []Link, err error) {
	spaces, err := netns.All()
	if err != nil {
		return nil, err
	}
	for _, n := range spaces {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		err := netns.Do(n, func() error {
			found, err := linksHere(devices)
			for i := range found {
				found[i].Namespace = n
			}
			out = append(out, found...)
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("looking at network devices of namespace %s: %w", n.Name(), err)
		}
	}
	return out, nil
}

// linksHere looks into the namespace of the calling thread.
func linksHere(devices []Device) (out []Link, err error) {
	c, err := netlink.Dial(unix.NETLINK_ROUTE, nil)
	if err != nil {
		return nil, fmt.Errorf("opening a netlink socket: %w", err)
	}
	defer c.Close()
	msgs, err := c.Execute(netlink.Message{
		Header: netlink.Header{Type: unix.RTM_GETLINK, Flags: netlink.Request | netlink.Dump},
		Data:   make([]byte, unix.SizeofIfInfomsg),
	})
	if err != nil {
		return nil, fmt.Errorf("listing network devices: %w", err)
	}
	for _, m := range msgs {
		l, err := parseLink(m.Data)
		if err != nil {
			return nil, fmt.Errorf("listing network devices: %w", err)
		}
		if !slices.ContainsFunc(devices, func(d Device) bool { return d.Name == l.Device || slices.Contains(d.Nets, l.Name) && l.Device == "" }) {
			continue
		}
		out = append(out, l)
	}
	if len(out) == 0 {
		return nil, nil
	}
	if err := offloads(c, out); err != nil {
		return nil, err
	}
	if err := keys(out); err != nil {
		return nil, err
	}
	return out, xdpSockets(out)
}

// parseLink reads one message of RTM_GETLINK: struct ifinfomsg and attributes.
func parseLink(data []byte) (l Link, err error) {
	if len(data) < unix.SizeofIfInfomsg {
		return l, fmt.Errorf("a message of %d bytes", len(data))
	}
	l.Index = native.Uint32(data[4:])
	ad, err := netlink.NewAttributeDecoder(data[unix.SizeofIfInfomsg:])
	if err != nil {
		return l, err
	}
	for ad.Next() {
		switch ad.Type() {
		case unix.IFLA_IFNAME:
			l.Name = ad.String()
		case unix.IFLA_PARENT_DEV_NAME: // since 5.14
			l.Device = ad.String()
		case unix.IFLA_XDP:
			ad.Nested(func(x *netlink.AttributeDecoder) error {
				for x.Next() {
					if x.Type() == iflaXDPMode {
						l.XDP = xdpModes[x.Uint8()]
					}
				}
				return x.Err()
			})
		}
	}
	return l, ad.Err()
}

// xdpModes are those of XDP_ATTACHED_* that reach into the driver; generic mode (2)
// is the network stack's own.
var xdpModes = map[uint8]string{1: "in the driver", 3: "in the hardware", 4: "in several places"}

// checkLinks looks at what the network devices are used for.
func checkLinks(l *findings, links []Link) {
	for _, n := range links {
		where := n.Name
		if n.Namespace.Path != "" && n.Namespace.Name() != "host" {
			where += " (network namespace " + n.Namespace.Name() + ")"
		}
		if n.XDP != "" {
			l.refuse(refuse.DriverXDP, where, "an XDP program is attached to it, %s", n.XDP)
		}
		switch {
		case n.Sockets > 0:
			l.refuse(refuse.DriverAFXDP, where, "%d AF_XDP sockets are bound to it", n.Sockets)
		case n.Sockets < 0:
			l.refuse(refuse.DriverAFXDP, where, "there are AF_XDP sockets, and the kernel cannot say to which devices they are bound (no xsk_diag)")
		}
		if len(n.Offloads) > 0 {
			l.refuse(refuse.DriverTC, where, "offloaded to it: %s", strings.Join(n.Offloads, ", "))
		}
		if len(n.Keys) > 0 {
			l.refuse(refuse.DriverTLS, where, "switched on: %s", strings.Join(n.Keys, ", "))
		}
	}
}
