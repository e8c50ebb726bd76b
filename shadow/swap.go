// SPDX-License-Identifier: Apache-2.0

package shadow

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"runtime"
	"time"

	"golang.org/x/sys/unix"

	"github.com/lupatch/lupatch/internal/refuse"
	"github.com/lupatch/lupatch/kpatch"
)

// Version is one version of a driver's module, in memory.
type Version struct {
	Image []byte
	// BuildID in hex.
	BuildID string
	// Params are what it is loaded with.
	Params string
}

// probePatience is how long a driver may take to probe all of its devices. A probe
// that does not come back at all cannot be ended.
const probePatience = 25 * time.Second

// Load loads a version and returns when it drives every device. If it does not, the
// error says what the log says about it: the module is then loaded or not, and Remove
// takes it off again. It needs CAP_SYS_MODULE.
func (s *Session) Load(ctx context.Context, k *kpatch.Kernel, v *Version) ([]*Device, error) {
	ctx, cancel := context.WithTimeout(ctx, probePatience)
	defer cancel()
	from := len(s.Log(0))
	loaded := make(chan error, 1)
	go func() {
		// A probe that dies of an Oops takes its thread along.
		runtime.LockOSThread()
		loaded <- insert(context.WithoutCancel(ctx), k, v)
	}()
	// The system call returns when the probes have, but for those that run later.
	select {
	case err := <-loaded:
		if err != nil {
			return nil, err
		}
	case <-s.died(ctx):
	}
	return s.Wait(ctx, from, State.Driven, func(st State) bool {
		return st == Alone || st == Stopped || st == Lost || st == GivenUp
	})
}

// busyPatience is how long others may come between with modules of the same name.
const busyPatience = 5 * time.Second

// insert loads the image. While the kernel is about to turn somebody else's module of
// that name away, it says to everybody that it is busy (add_unformed_module in
// kernel/module/main.c of 6.2, also in 6.1.170); such an attempt lasts milliseconds.
func insert(ctx context.Context, k *kpatch.Kernel, v *Version) error {
	deadline := time.Now().Add(busyPatience)
	for {
		err := k.LoadModule(ctx, v.Image, v.Params)
		if !errors.Is(err, unix.EBUSY) || time.Now().After(deadline) {
			return err
		}
		time.Sleep(time.Millisecond) // nobody tells when it is over
	}
}

// died is closed when the probing task has died or ctx has ended.
func (s *Session) died(ctx context.Context) <-chan struct{} {
	c := make(chan struct{})
	go func() {
		defer close(c)
		never := func(State) bool { return false }
		_, _ = s.Wait(ctx, 0, never, func(st State) bool { return st == Lost })
	}()
	return c
}

// removePatience is how long a module may stay in use after its last device is gone:
// the kernel frees what devices had behind RCU.
const removePatience = 5 * time.Second

// Remove takes the module that is loaded off its devices, which are impersonated from
// here on, and out of memory. It is no error if there is none.
func (s *Session) Remove(ctx context.Context, k *kpatch.Kernel) error {
	loaded, err := k.Loaded(s.Module)
	if err != nil || !loaded {
		return err
	}
	if err := s.Stop(); err != nil {
		return err
	}
	if err := s.Unbind(); err != nil {
		return err
	}
	return s.Unload(ctx, k)
}

// Unload takes the module out of memory.
func (s *Session) Unload(ctx context.Context, k *kpatch.Kernel) error {
	deadline := time.Now().Add(removePatience)
	for pause := time.Millisecond; ; pause *= 2 {
		err := k.Sys.DeleteModule(s.Module)
		switch {
		case err == nil || errors.Is(err, unix.ENOENT):
			return nil
		case !errors.Is(err, unix.EWOULDBLOCK):
			return fmt.Errorf("unloading %s: %w", s.Module, err)
		case time.Now().After(deadline) || ctx.Err() != nil:
			return refuse.New(refuse.DeviceUnfit, s.Module, "the kernel still counts users of the module")
		}
		// A reference count tells nobody that it has changed.
		select {
		case <-time.After(pause):
		case <-ctx.Done():
		}
	}
}

// Restore brings version old back from wherever the session is, and ends the session:
// for the guardian, and for what a step's own undo could not do. If it cannot, devices
// are given to whoever takes them, and those that nobody takes are unregistered.
func (s *Session) Restore(ctx context.Context, k *kpatch.Kernel, old *Version) error {
	err := s.restore(ctx, k, old)
	if err != nil {
		err = errors.Join(err, s.GiveUp())
	}
	if ferr := s.Finish(); ferr != nil {
		err = errors.Join(err, ferr)
	}
	return err
}

func (s *Session) restore(ctx context.Context, k *kpatch.Kernel, old *Version) error {
	lost, err := s.Lost()
	if err != nil {
		return err
	}
	if lost {
		return fmt.Errorf("a device of %s is lost until the next boot", s.Module)
	}
	id, err := k.ModuleBuildID(s.Module)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		_, err := s.Load(ctx, k, old)
		return err
	case err != nil:
		return err
	case id == old.BuildID:
		// It was not unloaded yet.
		return errors.Join(s.Resume(), s.Rebind())
	}
	if err := s.Remove(ctx, k); err != nil {
		return err
	}
	_, err = s.Load(ctx, k, old)
	return err
}
