// SPDX-License-Identifier: Apache-2.0

package state

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// Of a thread in another namespace /proc/net, which is /proc/self/net, shows that
// of the process (proc_net(5); /proc/thread-self since 3.17).
const procNet = "/proc/thread-self/net/"

// readFilters reads what the kernel itself keeps of an interface and has to tell
// each driver: addresses that it receives, VLANs, promiscuity. It is there after
// any replacement in which the net_device stays, and here to show that it did.
func readFilters(ctx context.Context, name string, into Settings) error {
	dir := filepath.Join(class, name)
	flags, err := strconv.ParseUint(attribute(filepath.Join(dir, "flags")), 0, 32)
	if err != nil {
		return fmt.Errorf("reading the flags: %w", err)
	}
	// IFF_PROMISC and IFF_ALLMULTI; the rest changes with the link or is the core's.
	fields := map[string]string{
		"address": attribute(filepath.Join(dir, "address")),
		"mtu":     attribute(filepath.Join(dir, "mtu")),
		"flags":   fmt.Sprintf("%#x", flags&(unix.IFF_PROMISC|unix.IFF_ALLMULTI|unix.IFF_UP)),
	}
	index, err := strconv.Atoi(attribute(filepath.Join(dir, "ifindex")))
	if err != nil {
		return fmt.Errorf("reading the number of the interface: %w", err)
	}
	addresses, err := forwarded(ctx, index)
	if err != nil {
		return fmt.Errorf("reading filtered addresses: %w", err)
	}
	fields["addresses"] = braces(addresses)
	groups, err := multicast(name)
	if err != nil {
		return fmt.Errorf("reading multicast addresses: %w", err)
	}
	fields["multicast"] = braces(groups)
	vlans, err := vlansOf(name)
	if err != nil {
		return fmt.Errorf("reading VLANs: %w", err)
	}
	fields["vlans"] = braces(vlans)
	into["interface"] = fields
	return nil
}

// multicast lists groups with how many users they have.
func multicast(name string) (out []string, err error) {
	err = eachLine(procNet+"dev_mcast", func(f []string) {
		// index, name, users, global users, address
		if len(f) == 5 && f[1] == name {
			out = append(out, f[4]+"x"+f[2])
		}
	})
	return out, err
}

// vlansOf lists the VLANs that stand on it; the file is there with 8021q only.
func vlansOf(name string) (out []string, err error) {
	err = eachLine(procNet+"vlan/config", func(f []string) {
		// eth0.7 | 7 | eth0
		if len(f) == 5 && f[4] == name {
			out = append(out, f[2])
		}
	})
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return out, err
}

func eachLine(path string, f func(fields []string)) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	s := bufio.NewScanner(file)
	for s.Scan() {
		f(strings.Fields(s.Text()))
	}
	return s.Err()
}

// forwarded lists the unicast addresses besides its own that an interface
// receives, as its forwarding database has them (ndo_dflt_fdb_dump).
func forwarded(ctx context.Context, index int) ([]string, error) {
	c, err := netlink.Dial(unix.NETLINK_ROUTE, nil)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	const (
		header  = 12 // struct ndmsg
		address = 2  // NDA_LLADDR
		master  = 9  // NDA_MASTER: then the entry is a bridge's
	)
	body := make([]byte, header)
	body[0] = unix.AF_BRIDGE
	native.PutUint32(body[4:], uint32(index))
	list, err := c.Execute(netlink.Message{Header: netlink.Header{Type: unix.RTM_GETNEIGH, Flags: netlink.Request | netlink.Dump}, Data: body})
	if err != nil {
		return nil, err
	}
	var out []string
	for _, m := range list {
		if len(m.Data) < header || int(native.Uint32(m.Data[4:])) != index {
			continue
		}
		d, err := netlink.NewAttributeDecoder(m.Data[header:])
		if err != nil {
			return nil, err
		}
		var mac net.HardwareAddr
		bridged := false
		for d.Next() {
			switch d.Type() {
			case address:
				mac = d.Bytes()
			case master:
				bridged = true
			}
		}
		// Groups are listed with their users elsewhere.
		if err := d.Err(); err != nil {
			return nil, err
		} else if !bridged && len(mac) > 0 && mac[0]&1 == 0 {
			out = append(out, mac.String())
		}
	}
	slices.Sort(out)
	return slices.Compact(out), nil
}
