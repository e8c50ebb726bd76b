// SPDX-License-Identifier: Apache-2.0

package compat

import (
	"slices"
	"testing"

	"github.com/mdlayher/netlink"

	"github.com/lupatch/lupatch/internal/refuse"
)

// tcMessage is what the kernel says of a qdisc or filter of the device 7.
func tcMessage(t *testing.T, attrs func(*netlink.AttributeEncoder)) []byte {
	t.Helper()
	ae := netlink.NewAttributeEncoder()
	attrs(ae)
	b, err := ae.Encode()
	if err != nil {
		t.Fatal(err)
	}
	head := make([]byte, sizeofTcMsg)
	native.PutUint32(head[4:], 7)
	native.PutUint32(head[8:], 0x10000)
	return append(head, b...)
}

// No card of QEMU's offloads filters, so that messages are made here.
func TestInHardware(t *testing.T) {
	filter := func(kind string, flag uint16, flags uint32) []byte {
		return tcMessage(t, func(ae *netlink.AttributeEncoder) {
			ae.String(tcaKind, kind)
			ae.Nested(tcaOptions, func(o *netlink.AttributeEncoder) error {
				o.Uint32(flag, flags)
				return nil
			})
		})
	}
	for name, c := range map[string]struct {
		msg   []byte
		index uint32
		want  string
	}{
		"flower in hardware": {filter("flower", 22, 1<<2), 7, "flower"},
		"u32, no software":   {filter("u32", 11, 1<<1|1<<2), 7, "u32"},
		"not in hardware":    {filter("flower", 22, 1<<3), 7, ""},
		"another attribute":  {filter("flower", 11, 1<<2), 7, ""},
		"another device":     {filter("flower", 22, 1<<2), 8, ""},
		"a kind without":     {filter("basic", 22, 1<<2), 7, ""},
	} {
		if got, err := inHardware(c.msg, c.index); err != nil || got != c.want {
			t.Errorf("%s: %q, %v, want %q", name, got, err, c.want)
		}
	}
	for _, bad := range [][]byte{nil, make([]byte, 10), append(make([]byte, sizeofTcMsg), 99, 0)} {
		if native.Uint32(append(bad, make([]byte, 8)...)[4:]) == 0 && len(bad) >= sizeofTcMsg {
			native.PutUint32(bad[4:], 7)
		}
		if got, err := inHardware(bad, 7); err == nil {
			t.Errorf("%x: %q", bad, got)
		}
	}
}

func TestLinkReasons(t *testing.T) {
	var l findings
	checkLinks(&l, []Link{
		{Name: "a", XDP: "in the driver"}, {Name: "b", Sockets: 2}, {Name: "c", Sockets: -1},
		{Name: "d", Offloads: []string{"qdisc mqprio"}}, {Name: "e", Keys: []string{"tls-hw-rx-offload"}}, {Name: "f"},
	})
	var got []refuse.ID
	for _, f := range l {
		got = append(got, f.ID)
	}
	if want := []refuse.ID{refuse.DriverXDP, refuse.DriverAFXDP, refuse.DriverAFXDP, refuse.DriverTC, refuse.DriverTLS}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}
