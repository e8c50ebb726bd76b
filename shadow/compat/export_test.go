// SPDX-License-Identifier: Apache-2.0

package compat

import (
	"net"

	"github.com/mdlayher/genetlink"
)

// Features lists what is switched on of an interface.
func Features(dev string) ([]string, error) {
	i, err := net.InterfaceByName(dev)
	if err != nil {
		return nil, err
	}
	c, err := genetlink.Dial(nil)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	family, err := c.GetFamily("ethtool")
	if err != nil {
		return nil, err
	}
	return active(c, family, uint32(i.Index))
}

// RouteTo is routeTo.
var RouteTo = routeTo
