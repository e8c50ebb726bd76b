// SPDX-License-Identifier: Apache-2.0

package update

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/lupatch/lupatch/internal/kmodule"
	"github.com/lupatch/lupatch/internal/refuse"
	"github.com/lupatch/lupatch/shadow"
	"github.com/lupatch/lupatch/shadow/state"
	"github.com/lupatch/lupatch/versions"
)

// exchange is the replacement of one version of a driver by another: the seven steps
// of "Live Update" (section 3.3), in either direction.
type exchange struct {
	h   *Host
	opt *Options
	// from is the version that runs, to the one that shall.
	from, to         *versions.DriverVersion
	fromImage, image []byte
	// cut has the version left behind removed from the store at the end.
	cut bool

	// needs are modules that the new one depends on, in the order in which they are
	// loaded, firmware the files that it may ask for.
	needs    []*kmodule.Module
	firmware map[string]string

	name   string // of the update that comes or goes
	change *Change
	result *Result

	control  *shadow.Control
	session  *shadow.Session
	guardian *guardian
	unmount  func() // of the firmware in memory
	states   []*state.State
	settings map[state.Device]state.Settings
}

// Names of the steps that others look for.
const (
	stepImpersonate = "impersonated"
	stepInitialise  = "initialised"
	stepInstall     = "installed"
)

func (x *exchange) module() string { return x.from.Module }

func (x *exchange) fromVersion() *shadow.Version {
	return &shadow.Version{Image: x.fromImage, BuildID: x.from.BuildID, Params: x.from.Params}
}

func (x *exchange) toVersion() *shadow.Version {
	return &shadow.Version{Image: x.image, BuildID: x.to.BuildID, Params: x.to.Params}
}

func (x *exchange) step(name string, do, undo func(context.Context) error) Step {
	return Step{Name: name, Update: x.name, BuildID: x.to.BuildID, Module: x.module, Do: do, Undo: undo}
}

func (x *exchange) steps() []Step {
	return []Step{
		x.step("staged", x.stage, x.unstage),
		x.step("preloaded", x.preload, x.dismiss),
		x.step("captured", x.capture, nil),
		x.step(stepImpersonate, x.impersonate, x.resume),
		x.step("disabled", x.disable, x.bringBack),
		x.step(stepInitialise, x.initialise, x.remove),
		x.step("transferred", x.transfer, nil),
		x.step("enabled", x.enable, nil),
	}
}

// lastSteps are those behind probation: the next boot has this version, too, and the
// shadow goes.
func (x *exchange) lastSteps() []Step {
	finish := x.step("finished", x.finish, nil)
	finish.Final = true
	return []Step{
		x.step(stepInstall, func(context.Context) error { return x.h.install(x.to, x.image) },
			func(context.Context) error { return x.h.install(x.from, x.fromImage) }),
		finish,
	}
}

func (x *exchange) finish(ctx context.Context) error {
	x.compare(ctx)
	if err := x.dismiss(ctx); err != nil {
		return err
	}
	if !x.cut {
		return nil
	}
	return x.h.Drivers.Cut(x.module(), x.from.Number)
}

// stage puts both versions into the store, so that whoever comes later finds them.
func (x *exchange) stage(context.Context) error {
	if err := x.h.Drivers.Put(x.from, x.fromImage); err != nil {
		return err
	}
	return x.h.Drivers.Put(x.to, x.image)
}

func (x *exchange) unstage(context.Context) error {
	if x.cut {
		return nil // it is the older one
	}
	return x.h.Drivers.Cut(x.module(), x.to.Number)
}

// preload gets everything into memory that is needed while there is no network, and
// the process that brings the old driver back if this one dies.
func (x *exchange) preload(ctx context.Context) (err error) {
	if err := lockMemory(); err != nil {
		return err
	}
	for _, m := range x.needs {
		if there, err := x.h.Kernel.Loaded(m.Name); err != nil || there {
			continue
		}
		if err := x.h.Kernel.LoadModule(ctx, m.Image, ""); err != nil {
			return fmt.Errorf("loading what the driver depends on: %w", err)
		}
	}
	if x.unmount, err = holdFirmware(x.h.Kernel, x.firmware); err != nil {
		return err
	}
	if x.control, err = shadow.Open(); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			x.close()
		}
	}()
	if x.session, err = x.control.Begin(x.module(), x.opt.Lenient); err != nil {
		return err
	}
	x.guardian, err = startGuardian(ctx, x)
	if err != nil {
		err = errors.Join(err, x.session.Finish())
	}
	return err
}

// dismiss ends the session; every device has its driver.
func (x *exchange) dismiss(context.Context) error {
	if err := x.session.Finish(); err != nil {
		return err
	}
	err := x.guardian.dismiss()
	x.close()
	return err
}

func (x *exchange) close() {
	if x.session != nil {
		x.session.Close()
	}
	if x.control != nil {
		x.control.Close()
	}
	x.session, x.control = nil, nil
	if x.unmount != nil {
		x.unmount()
	}
	x.unmount = nil
}

func (x *exchange) impersonate(context.Context) error { return x.session.Stop() }

func (x *exchange) resume(context.Context) error {
	return errors.Join(x.session.Rebind(), x.session.Resume())
}

// disable takes the old driver away. Up to its last line the way back is to bind it
// again.
func (x *exchange) disable(ctx context.Context) error {
	err := x.session.Unbind()
	if err == nil {
		err = x.session.Unload(ctx, x.h.Kernel)
	}
	if err != nil {
		return errors.Join(err, x.session.Rebind())
	}
	return nil
}

// bringBack loads the old driver. If not even that one takes the devices, they are
// given to whoever does, and unregistered if nobody does: a name without a device
// behind it would only mislead.
func (x *exchange) bringBack(ctx context.Context) error {
	_, err := x.session.Load(ctx, x.h.Kernel, x.fromVersion())
	if err == nil {
		return nil
	}
	return errors.Join(err, x.session.GiveUp())
}

func (x *exchange) initialise(ctx context.Context) error {
	_, err := x.session.Load(ctx, x.h.Kernel, x.toVersion())
	if err == nil {
		return nil
	}
	lost, lerr := x.session.Lost()
	if lerr != nil {
		return errors.Join(err, lerr)
	}
	if lost {
		died := &DiedError{Module: x.module(), Cause: err}
		// Whoever waits for that module's name to become free waits for ever.
		over := errors.Join(x.session.GiveUp(), x.dismiss(ctx))
		return &UndoError{Cause: died, Undo: errors.Join(errors.New("it cannot be unloaded"), over), Step: stepInitialise, Name: x.name}
	}
	if rerr := x.session.Remove(ctx, x.h.Kernel); rerr != nil {
		return errors.Join(err, rerr)
	}
	if _, refused := refuse.As(err); refused {
		return err
	}
	return refuse.New(refuse.DriverFailed, x.name, "%s", err)
}

func (x *exchange) remove(ctx context.Context) error { return x.session.Remove(ctx, x.h.Kernel) }

// DiedError says that the task that probed a driver died in it, of an Oops. What it
// had locked stays locked: the driver can be neither used nor unloaded, and the host
// owes a reboot.
type DiedError struct {
	Module string
	Cause  error
}

// Error names the driver.
func (e *DiedError) Error() string {
	return fmt.Sprintf("the kernel died (Oops) in the new driver of %s while it probed: %v; reboot this host, nothing more is tried", e.Module, e.Cause)
}

// Unwrap gives the cause.
func (e *DiedError) Unwrap() error { return e.Cause }

// enable waits for the link of every device that had one.
func (x *exchange) enable(ctx context.Context) error {
	limited, cancel := context.WithTimeout(ctx, shadow.LinkPatience)
	defer cancel()
	list, err := x.session.Wait(limited, 0, func(s shadow.State) bool { return s == shadow.Running || s == shadow.Owned },
		func(s shadow.State) bool { return !s.Driven() })
	if err != nil {
		return err
	}
	for _, d := range list {
		if d.Up && d.Carrier && d.When[shadow.MomentCarrier] == 0 {
			e := refuse.New(refuse.DriverFailed, d.Name, "its link has not come back in %s with the new driver", shadow.LinkPatience-time.Second)
			e.Remedy = "the old driver is back"
			return e
		}
	}
	x.result.Devices = outages(list)
	return nil
}
