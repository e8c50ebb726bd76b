// SPDX-License-Identifier: Apache-2.0

// Package survey looks over the devices of a host: which driver each is bound to,
// what was captured of its configuration, and whether that driver could be
// replaced. It is a first look that changes nothing and reads sysfs and pinned
// maps only; a replacement looks closer before it stops anything.
package survey

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/lupatch/lupatch/bpf"
	"github.com/lupatch/lupatch/internal/instances"
)

// Instance is a device with its driver.
type Instance struct {
	instances.Bound
	// Since is when the first of its interfaces came, if the capture ran then.
	Since time.Time `json:"since,omitzero"`
	// Captured are the configuration requests that were kept of its interfaces.
	Captured []bpf.Request `json:"captured,omitempty"`
	// Replaceable says that nothing was seen which stands in the way of replacing
	// the driver; Hindrances is what does.
	Replaceable bool     `json:"replaceable"`
	Hindrances  []string `json:"hindrances,omitempty"`
}

// Capture gives what was captured, as bpf.Captured does.
type Capture func() ([]bpf.Request, []bpf.Known, error)

// Survey looks at the kernel whose files lie below root (empty for the running
// one). A name limits it to the devices of a driver or module. It is complete for
// root only.
func Survey(root, name string, captured Capture) ([]Instance, error) {
	bound, err := instances.List(root, name)
	if err != nil {
		return nil, err
	}
	requests, known, err := captured()
	if err != nil && !errors.Is(err, bpf.ErrNotCapturing) && !errors.Is(err, os.ErrPermission) {
		return nil, err
	}
	out := make([]Instance, 0, len(bound))
	for _, b := range bound {
		i := Instance{Bound: b}
		for _, r := range requests {
			if i.has(r.NetNS, r.Index) {
				i.Captured = append(i.Captured, r)
			}
		}
		for _, k := range known {
			if i.has(k.NetNS, k.Index) && !k.Registered.IsZero() && (i.Since.IsZero() || k.Registered.Before(i.Since)) {
				i.Since = k.Registered
			}
		}
		i.Hindrances = hindrances(root, &i.Bound)
		i.Replaceable = len(i.Hindrances) == 0
		out = append(out, i)
	}
	return out, nil
}

func (i *Instance) has(netns uint32, index int) bool {
	return slices.ContainsFunc(i.Interfaces, func(n instances.Interface) bool { return n.Index == index && n.NetNS == netns })
}

// hindrances lists what can be seen without asking the driver.
func hindrances(root string, b *instances.Bound) (out []string) {
	if b.Module == "" {
		out = append(out, "its driver is part of the kernel image")
	}
	switch b.Class {
	case "net":
	case "":
		out = append(out, "it is of no class that has a shadow")
	default:
		out = append(out, "there is no shadow for the class "+b.Class+" yet")
	}
	for _, n := range b.Interfaces {
		if n.Wireless {
			out = append(out, n.Name+" is wireless")
		}
	}
	dir := filepath.Join("/"+root, b.Path)
	if n := read(dir, "sriov_numvfs"); n != "" && n != "0" {
		out = append(out, n+" virtual functions stand on it")
	}
	if _, err := os.Lstat(filepath.Join(dir, "physfn")); err == nil {
		out = append(out, "it is a virtual function")
	}
	for _, child := range []string{"infiniband", "uio", "vfio-dev"} {
		if _, err := os.Stat(filepath.Join(dir, child)); err == nil {
			out = append(out, "it has children of the kind "+child)
		}
	}
	if aux := auxiliary(root, dir); aux != "" {
		out = append(out, "the device "+aux+" stands on it")
	}
	return append(out, ofModule(root, b.Module)...)
}

// auxiliary is a child on the auxiliary bus: an RDMA driver's, mostly.
func auxiliary(root, dir string) string {
	list, err := filepath.Glob(filepath.Join("/"+root, "sys/bus/auxiliary/devices/*"))
	if err != nil {
		return ""
	}
	for _, l := range list {
		if path, err := filepath.EvalSymlinks(l); err == nil && filepath.Dir(path) == filepath.Clean(dir) {
			return filepath.Base(path)
		}
	}
	return ""
}

func ofModule(root, module string) (out []string) {
	if module == "" {
		return nil
	}
	patches, _ := filepath.Glob(filepath.Join("/"+root, "sys/kernel/livepatch/*", module))
	for _, p := range patches {
		out = append(out, fmt.Sprintf("the livepatch %s changes %s", filepath.Base(filepath.Dir(p)), module))
	}
	holders, _ := os.ReadDir(filepath.Join("/"+root, "sys/module", module, "holders"))
	var names []string
	for _, h := range holders {
		names = append(names, h.Name())
	}
	if len(names) > 0 {
		out = append(out, fmt.Sprintf("%s is used by %s", module, strings.Join(names, ", ")))
	}
	return out
}

func read(dir, name string) string {
	b, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}
