// SPDX-License-Identifier: Apache-2.0

package compat

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/lupatch/lupatch/internal/refuse"
	"github.com/lupatch/lupatch/kpatch"
)

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// childClasses are folders of a device that show that others than the network stack
// use it.
var childClasses = []struct{ folder, what string }{
	{"infiniband", "an RDMA device"}, {"infiniband_verbs", "an RDMA device"}, {"ieee80211", "a wireless device"},
	{"vfio-dev", "a device given to a virtual machine"}, {"mdev_supported_types", "a device given to virtual machines"},
	{"vdpa", "a device given to a virtual machine"},
}

// checkChildren looks for devices that the driver has made of its own and that have
// drivers of others.
func checkChildren(l *findings, k *kpatch.Kernel, d Device) error {
	for _, c := range childClasses {
		if exists(filepath.Join(d.Dir, c.folder)) {
			l.refuse(refuse.DriverChildren, d.Name, "it is also %s (%s)", c.what, c.folder)
		}
	}
	dir := k.Path("/sys/bus/auxiliary/devices")
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("listing auxiliary devices: %w", err)
	}
	for _, e := range entries {
		p, err := filepath.EvalSymlinks(filepath.Join(dir, e.Name()))
		if err != nil {
			continue // it went away
		}
		if strings.HasPrefix(p, d.Dir+"/") {
			l.refuse(refuse.DriverChildren, d.Name, "the auxiliary device %s is made of it", e.Name())
		}
	}
	return nil
}
