// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// Numbers of include/uapi/linux/sockios.h and ethtool.h that the capture keeps.
const (
	siocWanDev     = 0x894a
	siocPrivate    = 0x89f0
	siocPrivateEnd = 0x89ff
)

// ofEthtool names ethtool's requests, and says which of them change what the
// device keeps by itself, or do something once: a new driver finds that as it is.
var ofEthtool = map[uint32]struct {
	name  string
	stays bool
}{
	0x0c: {"EEPROM write", true},
	0x33: {"firmware flash", true},
	0x34: {"reset", true},
	0x35: {"n-tuple filter (old interface)", false},
	0x3e: {"dump flag", false},
	0x49: {"tunable", false},
	0x4b: {"per-queue coalescing", false},
	0x4f: {"PHY tunable", false},
}

// Name says in a few words what was asked for.
func (r *Request) Name() string {
	switch {
	case r.Command == unix.SIOCETHTOOL:
		e, ok := ofEthtool[r.Setting&0xffff]
		if !ok {
			return fmt.Sprintf("ethtool command %#x", r.Setting&0xffff)
		}
		if sub := r.Setting >> 16; sub != 0 {
			return fmt.Sprintf("ethtool %s %d", e.name, sub)
		}
		return "ethtool " + e.name
	case r.Command == unix.SIOCSMIIREG:
		return fmt.Sprintf("MII register %d of PHY %d", r.Setting>>16, r.Setting&0xffff)
	case r.Command == unix.SIOCSHWTSTAMP:
		return "hardware time stamping"
	case r.Command == siocWanDev:
		return "WAN settings"
	case r.Command >= siocPrivate && r.Command <= siocPrivateEnd:
		return fmt.Sprintf("private ioctl %d (%#x)", r.Command-siocPrivate, r.Command)
	}
	return fmt.Sprintf("ioctl %#x", r.Command)
}

// Stays says that what it did stays done when the driver is replaced.
func (r *Request) Stays() bool {
	return r.Command == unix.SIOCETHTOOL && ofEthtool[r.Setting&0xffff].stays
}
