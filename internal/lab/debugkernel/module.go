// SPDX-License-Identifier: Apache-2.0

package debugkernel

import (
	"context"
	"fmt"
	"os/exec"
)

// Modules compiles the out-of-tree modules of a folder against the kernel. Their
// .ko files are then in that folder, which make writes into. The error has the
// compiler's messages.
func (k *Kernel) Modules(ctx context.Context, dir string, vars ...string) error {
	args := append([]string{"-C", k.Build, "M=" + dir, "CC=" + k.CC, "ARCH=x86"}, vars...)
	cmd := exec.CommandContext(ctx, "make", append(args, "modules")...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("compiling modules for %s: %w\n%s", k.Release, err, out)
	}
	return nil
}
