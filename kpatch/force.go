// SPDX-License-Identifier: Apache-2.0

package kpatch

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"syscall"

	"github.com/lupatch/lupatch/internal/refuse"
)

// Force has the kernel count every task as moved in the transition of name,
// wherever it is (klp_force_transition, kernel/livepatch/transition.c). Tasks may
// run old and new code mixed from then on, until the next boot. Wait waits for
// the end, which comes at the kernel's next look. A transition that has ended is
// no error. Refusals: NotApplied, NotPermitted.
func (k *Kernel) Force(ctx context.Context, name string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	err := k.Sys.WriteFile(k.Path(livepatchDir, name, "force"), []byte("1"))
	switch {
	case err == nil, errors.Is(err, syscall.EINVAL): // force_store: not in transition
		return nil
	case gone(err):
		return notThere(name)
	case errors.Is(err, fs.ErrPermission):
		return refuse.New(refuse.NotPermitted, name, "writing its attribute force was denied")
	}
	return fmt.Errorf("forcing the transition of livepatch %s: %w", name, err)
}
