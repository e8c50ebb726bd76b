// SPDX-License-Identifier: Apache-2.0

package compat

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/lupatch/lupatch/internal/netns"
	"github.com/lupatch/lupatch/internal/refuse"
	"github.com/lupatch/lupatch/kpatch"
)

// remote is a file system or disk that comes over a network.
type remote struct {
	// what it is: "nfs4 from 10.0.0.1".
	what string
	// server is where it comes from; not valid if that cannot be told.
	server netip.Addr
}

// CheckRoot finds reasons against the replacement of the driver over which the root
// file system comes, if something would have to be read from it meanwhile: missing
// names what is not in memory. It needs root for the route, which is looked up in the
// network namespace of the first process. f is what Host gave.
func CheckRoot(k *kpatch.Kernel, f *Facts, missing []string) ([]Finding, error) {
	if len(missing) == 0 {
		return nil, nil
	}
	var l findings
	for _, at := range []string{"/", "/usr"} {
		r, err := remoteMount(k, at)
		if err != nil {
			return nil, err
		}
		if r == nil {
			continue
		}
		on, err := comesOver(k, f, r)
		if err != nil {
			return nil, err
		}
		if on != "" {
			l.refuse(refuse.DriverRoot, at, "%s comes over %s, and these are not in memory: %s", r.what, on, some(missing))
		}
	}
	return l, nil
}

// networkTypes are file systems whose server is a host, by the name in mountinfo;
// those of FUSE are not told apart.
var networkTypes = []string{"nfs", "nfs4", "cifs", "smb3", "ceph", "afs", "glusterfs", "fuse.glusterfs", "fuse.sshfs", "lustre"}

// remoteMount says what is mounted at a place for the first process, if it comes over
// a network; nil if not (proc(5), mountinfo: mount, parent, major:minor, root, mount
// point, options, optional fields, "-", type, source, options of the file system).
func remoteMount(k *kpatch.Kernel, at string) (*remote, error) {
	text, err := os.ReadFile(k.Path("/proc/1/mountinfo"))
	if err != nil {
		return nil, fmt.Errorf("looking where the root file system comes from: %w", err)
	}
	var r *remote
	for line := range strings.Lines(string(text)) {
		head, tail, ok := strings.Cut(line, " - ")
		w, t := strings.Fields(head), strings.Fields(tail)
		if !ok || len(w) < 5 || len(t) < 2 || w[4] != at {
			continue
		}
		r = nil // what was mounted last is what is seen
		kind, source := t[0], t[1]
		if slices.Contains(networkTypes, kind) {
			r = &remote{what: kind + " from " + source, server: server(source, strings.Join(t[2:], ","))}
			continue
		}
		if r, err = remoteDisk(k, w[2], source); err != nil {
			return nil, err
		}
	}
	return r, nil
}

// server finds the address: the option addr= of nfs and cifs, else the source, which
// may be ADDRESS:/path.
func server(source, options string) netip.Addr {
	for _, o := range strings.Split(options, ",") {
		if a, ok := strings.CutPrefix(o, "addr="); ok {
			if addr, err := netip.ParseAddr(a); err == nil {
				return addr
			}
		}
	}
	if a, err := netip.ParseAddr(source); err == nil {
		return a
	}
	host, _, _ := strings.Cut(source, ":/")
	host, _, _ = strings.Cut(host, ",")
	if ap, err := netip.ParseAddrPort(host); err == nil {
		return ap.Addr()
	}
	addr, _ := netip.ParseAddr(host)
	return addr
}

// remoteDisk follows a block device down to disks, and says if one is on another
// host. Of a file system with several devices the number is 0:N, and the source is one
// of them.
func remoteDisk(k *kpatch.Kernel, number, source string) (*remote, error) {
	link := k.Path("/sys/dev/block", number)
	if strings.HasPrefix(number, "0:") {
		if !strings.HasPrefix(source, "/dev/") {
			return nil, nil // tmpfs and the like
		}
		link = k.Path("/sys/class/block", filepath.Base(source))
	}
	dir, err := filepath.EvalSymlinks(link)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("looking where the root file system comes from: %w", err)
	}
	return disk(k, dir)
}

// disk looks at a block device's folder in sysfs and at those that it stands on.
func disk(k *kpatch.Kernel, dir string) (*remote, error) {
	if exists(filepath.Join(dir, "partition")) {
		dir = filepath.Dir(dir)
	}
	slaves, err := os.ReadDir(filepath.Join(dir, "slaves"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("looking what %s stands on: %w", filepath.Base(dir), err)
	}
	for _, s := range slaves {
		below, err := filepath.EvalSymlinks(filepath.Join(dir, "slaves", s.Name()))
		if err != nil {
			continue
		}
		if r, err := disk(k, below); r != nil || err != nil {
			return r, err
		}
	}
	name := filepath.Base(dir)
	switch {
	case strings.HasPrefix(name, "nbd"), strings.HasPrefix(name, "rbd"), strings.HasPrefix(name, "drbd"), strings.HasPrefix(name, "etherd!"):
		return &remote{what: "the network disk " + name}, nil
	case strings.Contains(dir, "/session"):
		return &remote{what: "the iSCSI disk " + name, server: iscsiServer(k, dir)}, nil
	case strings.HasPrefix(name, "nvme"):
		return nvme(k, name), nil
	}
	return nil, nil
}

// iscsiServer finds the connection of the session that a disk's path names
// (…/session1/target…).
func iscsiServer(k *kpatch.Kernel, dir string) netip.Addr {
	for _, part := range strings.Split(dir, "/") {
		if n, ok := strings.CutPrefix(part, "session"); ok {
			a, _ := netip.ParseAddr(attr(k.Path("/sys/class/iscsi_connection/connection"+n+":0"), "persistent_address"))
			return a
		}
	}
	return netip.Addr{}
}

// nvme says whether a disk's controller is reached over a network. nvme0n1 and
// nvme0c0n1 are disks of the subsystem nvme-subsys0, whose controllers are named in
// it; without one, of the controller nvme0.
func nvme(k *kpatch.Kernel, name string) *remote {
	first, _, _ := strings.Cut(strings.TrimPrefix(name, "nvme"), "n")
	first, _, _ = strings.Cut(first, "c")
	controllers, _ := filepath.Glob(k.Path("/sys/class/nvme-subsystem/nvme-subsys"+first, "nvme[0-9]*"))
	controllers = append(controllers, k.Path("/sys/class/nvme/nvme"+first))
	for _, c := range controllers {
		if t := attr(c, "transport"); t == "tcp" || t == "rdma" {
			r := &remote{what: "the NVMe disk " + name + " (" + t + ")"}
			for _, o := range strings.Split(attr(c, "address"), ",") {
				if a, ok := strings.CutPrefix(o, "traddr="); ok {
					r.server, _ = netip.ParseAddr(a)
				}
			}
			return r
		}
	}
	return nil
}

// comesOver names the driver's network device over which a server is reached; empty
// if it is another one. What cannot be told is taken for one of the driver's.
func comesOver(k *kpatch.Kernel, f *Facts, r *remote) (string, error) {
	var ours []string
	for _, d := range f.Devices {
		ours = append(ours, d.Nets...)
	}
	for _, n := range f.Links {
		if !slices.Contains(ours, n.Name) && n.Namespace.Name() == "host" {
			ours = append(ours, n.Name)
		}
	}
	unknown := "a network device that cannot be told"
	if !r.server.IsValid() || k.Root != "" {
		return unknown, nil
	}
	all, err := netns.All()
	if err != nil {
		return "", err
	}
	out := ""
	err = netns.Do(all[0], func() error { // that of the first process
		dev, err := routeTo(r.server)
		if err != nil || dev == "" {
			out = unknown
			return err
		}
		for _, n := range append(lowers(dev), dev) {
			if slices.Contains(ours, n) {
				out = n
			}
		}
		return nil
	})
	return out, err
}

// lowers lists the network devices that one stands on (bond, VLAN, bridge), in the
// namespace that /sys shows: links lower_NAME, and a bridge's ports.
func lowers(dev string) (out []string) {
	entries, err := os.ReadDir(filepath.Join("/sys/class/net", dev))
	if err != nil {
		return nil
	}
	for _, e := range entries {
		if n, ok := strings.CutPrefix(e.Name(), "lower_"); ok && n != dev {
			out = append(append(out, n), lowers(n)...)
		}
	}
	return out
}
