// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"os"
	"strings"

	"github.com/lupatch/lupatch/internal/lab/cpio"
	"github.com/lupatch/lupatch/internal/lab/userland"
)

// loader is where programs look for the dynamic linker (System V ABI, AMD64
// supplement); packages have it there as a link, or in a folder that is one.
const loader = "lib64/ld-linux-x86-64.so.2"

// shell is the package of /bin/sh where there are packages: busybox's, as Debian
// builds it, takes its own commands for programs of the same name.
const shell = "dash"

// addPackages comes before busybox: its commands do not replace those of a
// package.
func addPackages(ctx context.Context, w *cpio.Writer, c *Config) error {
	if len(c.Packages) == 0 {
		return nil
	}
	entries, err := userland.Collect(ctx, c.Cache, append([]string{shell}, c.Packages...))
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.Link != "" {
			if err := w.Symlink(e.Path, e.Link); err != nil {
				return err
			}
			continue
		}
		image, err := os.ReadFile(e.Host)
		if err != nil {
			return err
		}
		if err := w.File(e.Path, uint32(e.Mode), image); err != nil {
			return err
		}
		if strings.HasSuffix(e.Path, "/ld-linux-x86-64.so.2") && !w.Has(loader) {
			if err := w.Symlink(loader, "/"+e.Path); err != nil {
				return err
			}
		}
	}
	return nil
}

// servicePackages are what systemd needs as process 1. Their own users are in the
// guest's /etc/passwd, which no package's script writes.
var servicePackages = []string{"systemd", "udev", "dbus", "dbus-daemon", "dbus-bin", "dbus-system-bus-common"}

// NetworkTools are the packages with which an operator looks at a host's
// network, and the services that follow it. Some 30 MB of a lab host's memory.
var NetworkTools = []string{"iproute2", "ethtool", "nftables", "tcpdump", "udev", "systemd"}
