// SPDX-License-Identifier: Apache-2.0

package compat

import (
	"errors"
	"fmt"
	"slices"

	"github.com/mdlayher/genetlink"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// Attributes of include/uapi/linux/ethtool_netlink.h.
const (
	msgFeaturesGet = 11
	attrHeader     = 1
	attrActive     = 4
	headerIndex    = 1
	bitsetBits     = 3
	bitsBit        = 1
	bitName        = 2
)

// keyed are features that keep keys of connections in the driver while they are on
// (net/ethtool/common.c, netdev_features_strings).
var keyed = []string{"tls-hw-tx-offload", "tls-hw-rx-offload", "tls-hw-record", "esp-hw-offload", "macsec-hw-offload"}

// keys asks which of those features are on.
func keys(links []Link) error {
	c, err := genetlink.Dial(nil)
	if err != nil {
		return fmt.Errorf("opening a netlink socket: %w", err)
	}
	defer c.Close()
	family, err := c.GetFamily("ethtool")
	if err != nil {
		return fmt.Errorf("looking for ethtool's netlink: %w", err)
	}
	for i := range links {
		on, err := active(c, family, links[i].Index)
		if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENODEV) {
			continue
		}
		if err != nil {
			return fmt.Errorf("reading the features of %s: %w", links[i].Name, err)
		}
		for _, f := range on {
			if slices.Contains(keyed, f) {
				links[i].Keys = append(links[i].Keys, f)
			}
		}
	}
	return nil
}

// active lists the features of a device that are on.
func active(c *genetlink.Conn, family genetlink.Family, index uint32) (on []string, err error) {
	ae := netlink.NewAttributeEncoder()
	ae.Nested(attrHeader, func(h *netlink.AttributeEncoder) error {
		h.Uint32(headerIndex, index)
		return nil
	})
	data, err := ae.Encode()
	if err != nil {
		return nil, err
	}
	msgs, err := c.Execute(genetlink.Message{Header: genetlink.Header{Command: msgFeaturesGet, Version: family.Version}, Data: data}, family.ID, netlink.Request)
	if err != nil {
		return nil, err
	}
	for _, m := range msgs {
		ad, err := netlink.NewAttributeDecoder(m.Data)
		if err != nil {
			return nil, err
		}
		for ad.Next() {
			if ad.Type() != attrActive {
				continue
			}
			ad.Nested(func(set *netlink.AttributeDecoder) error {
				for set.Next() {
					if set.Type() == bitsetBits {
						set.Nested(func(bits *netlink.AttributeDecoder) error { return bitNames(bits, &on) })
					}
				}
				return set.Err()
			})
		}
		if err := ad.Err(); err != nil {
			return nil, err
		}
	}
	return on, nil
}

// bitNames reads a set that lists only the bits which are set.
func bitNames(bits *netlink.AttributeDecoder, into *[]string) error {
	for bits.Next() {
		if bits.Type() != bitsBit {
			continue
		}
		bits.Nested(func(b *netlink.AttributeDecoder) error {
			for b.Next() {
				if b.Type() == bitName {
					*into = append(*into, b.String())
				}
			}
			return b.Err()
		})
	}
	return bits.Err()
}
