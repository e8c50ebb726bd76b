// SPDX-License-Identifier: Apache-2.0

package kpatch

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"regexp"
	"sort"
	"strconv"
	"strings"
	"syscall"

	"github.com/lupatch/lupatch/internal/refuse"
)

// Livepatch is one entry of /sys/kernel/livepatch.
type Livepatch struct {
	// Name is that of its module.
	Name string `json:"name"`
	// Update and Generation are Name taken apart: generation 1 of NAME is NAME,
	// the later ones are NAME__2, NAME__3…
	Update     string `json:"update"`
	Generation int    `json:"generation"`
	Enabled    bool   `json:"enabled"`
	// Transition is set while tasks still move to what Enabled says.
	Transition bool     `json:"transition"`
	Objects    []Object `json:"objects"`
	// BuildID of its module in hex; empty if it has none.
	BuildID string `json:"build_id,omitempty"`
}

// Object is vmlinux or a module that a livepatch changes.
type Object struct {
	Name string `json:"name"`
	// Patched is false while the module is not loaded. Kernels before 6.1 do
	// not say; it is true there.
	Patched   bool       `json:"patched"`
	Functions []Function `json:"functions"`
}

// Function is a function that a livepatch replaces. Sympos is the kernel's count
// among symbols of one name; 1 for one that is alone.
type Function struct {
	Name   string `json:"name"`
	Sympos int    `json:"sympos"`
}

var reGeneration = regexp.MustCompile(`^(.+)__([1-9][0-9]*)$`)

// Generation takes a module's name apart; see Livepatch. MODULE of generation 1
// is the update's name itself.
func Generation(module string) (update string, generation int) {
	m := reGeneration.FindStringSubmatch(module)
	if m == nil {
		return module, 1
	}
	n, err := strconv.Atoi(m[2])
	if err != nil || n < 2 {
		return module, 1
	}
	return m[1], n
}

// GenerationName is the inverse of Generation.
func GenerationName(update string, generation int) string {
	if generation <= 1 {
		return update
	}
	return fmt.Sprintf("%s__%d", update, generation)
}

// List gives every livepatch in the kernel, by name, foreign ones too. One that
// vanishes while it is read is left out. Without livepatch support the error is
// refuse.NoLivepatch.
func (k *Kernel) List(ctx context.Context) ([]Livepatch, error) {
	if err := k.Supported(); err != nil {
		return nil, err
	}
	dirs, err := os.ReadDir(k.Path(livepatchDir))
	if err != nil {
		return nil, fmt.Errorf("listing livepatches: %w", err)
	}
	list := []Livepatch{}
	for _, d := range dirs {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if !d.IsDir() {
			continue
		}
		p, err := k.Livepatch(d.Name())
		if gone(err) {
			continue
		}
		if err != nil {
			return nil, err
		}
		list = append(list, *p)
	}
	return list, nil
}

// Livepatch reads one livepatch; fs.ErrNotExist is in the chain if it is not
// there.
func (k *Kernel) Livepatch(name string) (*Livepatch, error) {
	p := &Livepatch{Name: name, Objects: []Object{}}
	p.Update, p.Generation = Generation(name)
	var err error
	if p.Enabled, err = k.boolAttr(livepatchDir, name, "enabled"); err != nil {
		return nil, fmt.Errorf("reading livepatch %s: %w", name, err)
	}
	if p.Transition, err = k.boolAttr(livepatchDir, name, "transition"); err != nil {
		return nil, fmt.Errorf("reading livepatch %s: %w", name, err)
	}
	entries, err := os.ReadDir(k.Path(livepatchDir, name))
	if err != nil {
		return nil, fmt.Errorf("reading livepatch %s: %w", name, err)
	}
	for _, e := range entries {
		if !e.IsDir() {
			continue
		}
		o, err := k.object(name, e.Name())
		if err != nil {
			return nil, fmt.Errorf("reading livepatch %s: %w", name, err)
		}
		p.Objects = append(p.Objects, *o)
	}
	p.BuildID, err = k.ModuleBuildID(name)
	if err != nil && !gone(err) {
		return nil, err
	}
	return p, nil
}

func (k *Kernel) object(patch, name string) (*Object, error) {
	o := &Object{Name: name, Patched: true, Functions: []Function{}}
	// The attribute came with 6.1 (commit bb26cfd9e77e).
	patched, err := k.boolAttr(livepatchDir, patch, name, "patched")
	if err == nil {
		o.Patched = patched
	} else if !gone(err) {
		return nil, err
	}
	entries, err := os.ReadDir(k.Path(livepatchDir, patch, name))
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		// "function,sympos": Documentation/ABI/testing/sysfs-kernel-livepatch.
		fn, pos, ok := strings.Cut(e.Name(), ",")
		if !e.IsDir() || !ok {
			continue
		}
		n, err := strconv.Atoi(pos)
		if err != nil {
			return nil, fmt.Errorf("reading the position of %s: %w", e.Name(), err)
		}
		o.Functions = append(o.Functions, Function{fn, n})
	}
	sort.Slice(o.Functions, func(i, j int) bool {
		a, b := o.Functions[i], o.Functions[j]
		return a.Name < b.Name || a.Name == b.Name && a.Sympos < b.Sympos
	})
	return o, nil
}

// Disable starts to take a livepatch back; Wait waits for the end. It also
// turns a transition that enables it round. Refusals: NotApplied if there is no
// such livepatch, KernelBusy while another one is in transition, NotPermitted.
// A livepatch that is disabled already, or on the way, is no error.
func (k *Kernel) Disable(ctx context.Context, name string) error {
	return k.setEnabled(ctx, name, false)
}

// Enable turns a transition that disables a livepatch round. The kernel enables
// a livepatch when it is loaded and never again after it was disabled: without
// a transition the refusal is NotApplied.
func (k *Kernel) Enable(ctx context.Context, name string) error {
	return k.setEnabled(ctx, name, true)
}

// Reverse turns the transition of a livepatch round, whichever way it goes. If
// there is none the refusal is NotApplied.
func (k *Kernel) Reverse(ctx context.Context, name string) error {
	p, err := k.Livepatch(name)
	if gone(err) {
		return notThere(name)
	}
	if err != nil {
		return err
	}
	if !p.Transition {
		return refuse.New(refuse.NotApplied, name, "it is not in transition: there is nothing to reverse")
	}
	return k.setEnabled(ctx, name, !p.Enabled)
}

func (k *Kernel) setEnabled(ctx context.Context, name string, on bool) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	value := "0"
	if on {
		value = "1"
	}
	err := k.Sys.WriteFile(k.Path(livepatchDir, name, "enabled"), []byte(value))
	switch {
	case err == nil:
		return nil
	case gone(err):
		return notThere(name)
	case errors.Is(err, syscall.EINVAL):
		// enabled_store (kernel/livepatch/core.c): in the requested state
		// already, or a disabled livepatch was to be enabled.
		now, rerr := k.boolAttr(livepatchDir, name, "enabled")
		if gone(rerr) || rerr == nil && now != on {
			return refuse.New(refuse.NotApplied, name, "the kernel does not enable a disabled livepatch again; its module has to be loaded anew")
		}
		return rerr
	case errors.Is(err, syscall.EBUSY):
		return k.busy(ctx, name)
	case errors.Is(err, fs.ErrPermission):
		return refuse.New(refuse.NotPermitted, name, "writing its attribute enabled was denied")
	}
	return fmt.Errorf("writing %s to the attribute enabled of livepatch %s: %w", value, name, err)
}

// busy makes the refusal for EBUSY and names the livepatch in transition.
func (k *Kernel) busy(ctx context.Context, name string) error {
	list, err := k.List(ctx)
	if err != nil {
		return err
	}
	for _, p := range list {
		if p.Transition && p.Name != name {
			return refuse.New(refuse.KernelBusy, name, "the livepatch %s is in transition", p.Name)
		}
	}
	return refuse.New(refuse.KernelBusy, name, "a transition was running; it has ended meanwhile")
}

func notThere(name string) error {
	return refuse.New(refuse.NotApplied, name, "there is no such livepatch in the kernel")
}

// gone is true for the errors of a sysfs or procfs entry that is not there any
// more: a removed attribute gives ENODEV to who has it open, a task that ended
// gives ESRCH.
func gone(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENODEV) || errors.Is(err, syscall.ESRCH)
}
