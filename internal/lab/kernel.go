// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/lupatch/lupatch/internal/deb"
)

// DefaultKernel is the release that a lab host runs if none is named: that of
// this machine if its image is installed, else the newest one of the Debian
// release that this machine runs.
func DefaultKernel(ctx context.Context, cache *deb.Cache) (string, error) {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return "", fmt.Errorf("asking for the kernel release: %w", err)
	}
	if release := unix.ByteSliceToString(u.Release[:]); cache.Installed(release) {
		return release, nil
	}
	release, err := cache.CurrentKernel(ctx)
	if err != nil {
		return "", fmt.Errorf("choosing a kernel for the lab host: %w", err)
	}
	return release, nil
}
