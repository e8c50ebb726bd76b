// SPDX-License-Identifier: Apache-2.0

package kpatch

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"syscall"
	"time"

	"github.com/lupatch/lupatch/internal/refuse"
)

// settleTime bounds the wait for what the kernel still does when a transition
// has ended: the livepatch is freed and its module let go from a work item
// (klp_free_patch_work_fn), and running tasks have to be seen off their CPU.
const settleTime = 10 * time.Second

// Unload takes the module of a disabled livepatch out of memory, if nothing can
// reach it any more: no place in escapes (the manifest's), no livepatch of that
// name, no reference, and no task in any of its text. Otherwise it stays and the
// refusal is UnloadUnsafe; NotApplied if there is no such module. It needs
// CAP_SYS_MODULE, CAP_SYS_ADMIN and CAP_SYS_PTRACE.
//
// The kernel's own check for a transition covers the functions it was told of;
// a task asleep in a helper that was reached by a tail call, or in a .cold part,
// is on no such function. Code in interrupts is waited for by the kernel itself
// when it frees the module (synchronize_rcu in free_module).
func (k *Kernel) Unload(ctx context.Context, name string, escapes []string) error {
	loaded, err := k.Loaded(name)
	if err != nil {
		return err
	}
	if !loaded {
		return refuse.New(refuse.NotApplied, name, "there is no such module in memory")
	}
	if len(escapes) > 0 {
		return refuse.New(refuse.UnloadUnsafe, name, "addresses of it may be kept elsewhere: %s", strings.Join(escapes, ", "))
	}
	if p, err := k.Livepatch(name); err == nil && (p.Enabled || p.Transition) {
		return refuse.New(refuse.UnloadUnsafe, name, "it is enabled or in transition")
	} else if err != nil && !gone(err) {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, settleTime)
	defer cancel()
	if err := k.awaitRelease(ctx, name); err != nil {
		return err
	}
	if err := k.awaitOutside(ctx, name); err != nil {
		return err
	}
	err = k.Sys.DeleteModule(name)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, syscall.EBUSY):
		return refuse.New(refuse.UnloadUnsafe, name, "it was built to stay: it has no exit function")
	case errors.Is(err, syscall.EWOULDBLOCK):
		return refuse.New(refuse.UnloadUnsafe, name, "the kernel still counts a user of it")
	case errors.Is(err, syscall.EPERM):
		return refuse.New(refuse.NotPermitted, name, "unloading the module was denied")
	}
	return fmt.Errorf("unloading module %s: %w", name, err)
}

// awaitRelease waits until the livepatch core has let go of the module. There is
// no notification for it: sysfs attributes of modules have none.
func (k *Kernel) awaitRelease(ctx context.Context, name string) error {
	err := waitFor(ctx, func() (bool, error) {
		if _, err := k.Livepatch(name); err == nil {
			return false, nil
		} else if !gone(err) {
			return false, err
		}
		s, err := k.attr("/sys/module", name, "refcnt")
		if gone(err) {
			return true, nil // delete_module will say what there is to say
		}
		return s == "0", err
	})
	if err != nil && ctx.Err() != nil {
		return refuse.New(refuse.UnloadUnsafe, name, "the kernel still counts a user of it")
	}
	return err
}
