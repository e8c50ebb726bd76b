// SPDX-License-Identifier: Apache-2.0

package compat

import (
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

var native = binary.NativeEndian

// Attributes of include/uapi/linux/rtnetlink.h, and pkt_cls.h.
const (
	tcaKind      = 1
	tcaOptions   = 2
	tcaHWOffload = 12
	sizeofTcMsg  = 20
	flagInHW     = 1 << 2 // TCA_CLS_FLAGS_IN_HW
)

// flagsOf is the attribute with a filter's flags (32 bits), by kind.
var flagsOf = map[string]uint16{"u32": 11, "flower": 22, "matchall": 3, "bpf": 9}

// roots are the places of filters besides a qdisc's own: those of clsact and ingress
// (TC_H_CLSACT and its minors).
var roots = []uint32{0xfffffff1, 0xffff0000, 0xfffffff2, 0xfffffff3}

// offloads finds qdiscs and filters that the hardware carries out.
func offloads(c *netlink.Conn, links []Link) error {
	qdiscs, err := c.Execute(netlink.Message{
		Header: netlink.Header{Type: unix.RTM_GETQDISC, Flags: netlink.Request | netlink.Dump},
		Data:   make([]byte, sizeofTcMsg),
	})
	if err != nil {
		return fmt.Errorf("listing qdiscs: %w", err)
	}
	for i := range links {
		l := &links[i]
		parents := slices.Clone(roots)
		for _, m := range qdiscs {
			kind, index, handle, err := parseTc(m.Data, func(kind string, ad *netlink.AttributeDecoder) {
				if ad.Type() == tcaHWOffload && ad.Uint8() != 0 {
					l.Offloads = append(l.Offloads, "qdisc "+kind)
				}
			}, l.Index)
			if err != nil {
				return fmt.Errorf("listing qdiscs: %w", err)
			}
			if index == l.Index && handle != 0 && kind != "" {
				parents = append(parents, handle)
			}
		}
		for _, p := range parents {
			if err := filters(c, l, p); err != nil {
				return err
			}
		}
	}
	return nil
}

// parseTc reads struct tcmsg and attributes, and calls f for those of one device.
func parseTc(data []byte, f func(kind string, ad *netlink.AttributeDecoder), index uint32) (kind string, at, handle uint32, err error) {
	if len(data) < sizeofTcMsg {
		return "", 0, 0, fmt.Errorf("a message of %d bytes", len(data))
	}
	at, handle = native.Uint32(data[4:]), native.Uint32(data[8:])
	if at != index {
		return "", at, handle, nil
	}
	ad, err := netlink.NewAttributeDecoder(data[sizeofTcMsg:])
	if err != nil {
		return "", 0, 0, err
	}
	for ad.Next() {
		if ad.Type() == tcaKind {
			kind = ad.String()
		}
		f(kind, ad)
	}
	return kind, at, handle, ad.Err()
}

// filters looks at the filters of one place.
func filters(c *netlink.Conn, l *Link, parent uint32) error {
	req := make([]byte, sizeofTcMsg)
	native.PutUint32(req[4:], l.Index)
	native.PutUint32(req[12:], parent)
	msgs, err := c.Execute(netlink.Message{
		Header: netlink.Header{Type: unix.RTM_GETTFILTER, Flags: netlink.Request | netlink.Dump},
		Data:   req,
	})
	if err != nil {
		// A place that does not exist, or a qdisc that takes no filters.
		return nil
	}
	for _, m := range msgs {
		kind, err := inHardware(m.Data, l.Index)
		if err != nil {
			return fmt.Errorf("listing filters of %s: %w", l.Name, err)
		}
		if kind != "" {
			l.Offloads = append(l.Offloads, "filter "+kind)
		}
	}
	return nil
}

// inHardware gives the kind of a filter if it is one of the device's that the hardware
// carries out, else nothing.
func inHardware(msg []byte, index uint32) (found string, err error) {
	_, _, _, err = parseTc(msg, func(kind string, ad *netlink.AttributeDecoder) {
		want, known := flagsOf[kind]
		if ad.Type() != tcaOptions || !known {
			return
		}
		ad.Nested(func(o *netlink.AttributeDecoder) error {
			for o.Next() {
				if o.Type() == want && o.Uint32()&flagInHW != 0 {
					found = kind
				}
			}
			return o.Err()
		})
	}, index)
	return found, err
}
