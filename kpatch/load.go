// SPDX-License-Identifier: Apache-2.0

package kpatch

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"

	"github.com/lupatch/lupatch/internal/refuse"
)

// LoadError is a refusal of the kernel to load a module, with everything it
// said. refuse.As finds the refusal in it.
type LoadError struct {
	Refusal *refuse.Error
	// Errno is what init_module gave.
	Errno error
	// Log holds the kernel's messages that belong to it.
	Log []string
}

// Error is the refusal's text.
func (e *LoadError) Error() string { return e.Refusal.Error() }

// Unwrap gives the refusal and the error number.
func (e *LoadError) Unwrap() []error { return []error{e.Refusal, e.Errno} }

// callbackRefuses is what an update says on behalf of its pre-patch callback,
// whose error number may mean something else elsewhere.
const callbackRefuses = "pre-patch callback refuses"

// signRemedy is what helps where the kernel does not take a signature, or wants
// one.
const signRemedy = "sign it with a key that the kernel has (`lupatch sign --help`), such as a machine owner key (mokutil --import); see `lupatch doctor`"

// Load loads a livepatch module, which enables it: the transition has begun
// when it returns without error, and Wait waits for its end. It needs
// CAP_SYS_MODULE. The system call cannot be interrupted; ctx is looked at
// before it. An error the kernel gives is a *LoadError: refuse.LoadRefused,
// KernelBusy or NotPermitted.
func (k *Kernel) Load(ctx context.Context, image []byte, params string) error {
	if err := k.Supported(); err != nil {
		return err
	}
	return k.LoadModule(ctx, image, params)
}

// LoadModule loads any module, a driver for instance, as Load does. That it returns
// without error says nothing of its devices: a probe that fails fails by itself.
func (k *Kernel) LoadModule(ctx context.Context, image []byte, params string) error {
	name, err := ModuleName(image)
	if err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	// Without it the refusal says less.
	log, err := k.OpenLog()
	if err == nil {
		defer log.Close()
	}
	if err := k.Sys.InitModule(image, params); err != nil {
		return k.loadError(ctx, name, err, about(log.lines(), name))
	}
	return nil
}

// loadError explains an error of init_module. The meanings are those of
// kernel/module and kernel/livepatch/core.c.
func (k *Kernel) loadError(ctx context.Context, name string, errno error, log []string) error {
	e := &LoadError{Errno: errno, Log: log}
	made := func(id refuse.ID, format string, args ...any) error {
		e.Refusal = refuse.New(id, name, format, args...)
		if len(log) > 0 {
			e.Refusal.Detail += "; the kernel says: " + strings.Join(log, " / ")
		}
		return e
	}
	switch {
	case slices.ContainsFunc(log, func(l string) bool { return strings.Contains(l, callbackRefuses) }):
		return made(refuse.LoadRefused, "its own check, made before anything is changed, failed (%v)", errno)
	case errors.Is(errno, syscall.EPERM) && k.Lockdown() != "" && k.Lockdown() != "none" && !k.modulesOff():
		// Locked down, the kernel says so instead of ENOKEY (kernel/module/signing.c).
		err := made(refuse.LoadRefused, "the kernel does not have the key that signed it, and is locked down (%s)", k.Lockdown())
		e.Refusal.Remedy = signRemedy
		return err
	case errors.Is(errno, syscall.EPERM):
		return made(refuse.NotPermitted, "%s", k.whyNotPermitted())
	case errors.Is(errno, syscall.EKEYREJECTED), errors.Is(errno, syscall.ENOKEY), errors.Is(errno, syscall.EBADMSG):
		err := made(refuse.LoadRefused, "the kernel does not accept its signature, or that it has none")
		e.Refusal.Remedy = signRemedy
		return err
	case errors.Is(errno, syscall.EEXIST):
		return made(refuse.LoadRefused, "a module of that name is loaded already")
	case errors.Is(errno, syscall.ENOEXEC):
		return made(refuse.LoadRefused, "the kernel does not accept its format or its version")
	case errors.Is(errno, syscall.ENOENT):
		return made(refuse.LoadRefused, "a symbol it needs is not in this kernel")
	case errors.Is(errno, syscall.EBUSY):
		// klp_enable_patch: one transition at a time.
		if b, ok := refuse.As(k.busy(ctx, name)); ok {
			return made(b.ID, "%s", b.Detail)
		}
		return made(refuse.KernelBusy, "another transition is running")
	}
	var no syscall.Errno
	if !errors.As(errno, &no) {
		return fmt.Errorf("loading module %s: %w", name, errno)
	}
	return made(refuse.LoadRefused, "the kernel refused it (%s)", no)
}

func (k *Kernel) whyNotPermitted() string {
	if k.modulesOff() {
		return "loading modules has been switched off until the next boot (kernel.modules_disabled)"
	}
	return "loading a module was denied"
}

func (k *Kernel) modulesOff() bool {
	on, err := k.boolAttr("/proc/sys/kernel/modules_disabled")
	return err == nil && on
}

// Enforces says in a few words why the kernel takes only modules with a signature
// of a key that it has itself; empty if it takes others, too. It does when told to
// (CONFIG_MODULE_SIG_FORCE, module.sig_enforce) and when it is locked down, as with
// Secure Boot.
func (k *Kernel) Enforces() string {
	if mode := k.Lockdown(); mode != "" && mode != "none" {
		return "it is locked down (" + mode + ")"
	}
	// Absent without CONFIG_MODULE_SIG.
	if s, err := k.attr("/sys/module/module/parameters/sig_enforce"); err == nil && s == "Y" {
		return "it enforces signatures (module.sig_enforce)"
	}
	return ""
}

// Lockdown is the mode of the kernel's lockdown: none, integrity,
// confidentiality, or empty if the kernel has none. Since Linux 5.4.
func (k *Kernel) Lockdown() string {
	s, err := k.attr("/sys/kernel/security/lockdown")
	if err != nil {
		return ""
	}
	_, s, _ = strings.Cut(s, "[")
	s, _, _ = strings.Cut(s, "]")
	return s
}
