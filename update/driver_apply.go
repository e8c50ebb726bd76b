// SPDX-License-Identifier: Apache-2.0

package update

import (
	"context"
	"errors"
	"io/fs"
	"slices"

	"github.com/lupatch/lupatch/internal/journal"
	"github.com/lupatch/lupatch/internal/manifest"
	"github.com/lupatch/lupatch/internal/refuse"
	"github.com/lupatch/lupatch/kpatch"
	"github.com/lupatch/lupatch/probation"
	"github.com/lupatch/lupatch/shadow/compat"
	"github.com/lupatch/lupatch/versions"
)

// ApplyDriver replaces the driver that runs by the module in file, as one change: it
// ends with that driver at work on all of its devices, or with the old one. It needs
// root and the kernel module lupatch_shadow. Refusals, all before anything is stopped,
// are those of manifest.ReadDriver, sign.Policy.Check, package compat, WrongRelease,
// AlreadyApplied, Unfinished, Barred, ShadowMissing and DeviceUnfit; DriverFailed is
// one after which the old driver is back. A *DiedError in the chain means that neither
// driver works and the host owes a reboot.
func (h *Host) ApplyDriver(ctx context.Context, file string, opt Options) (*Result, error) {
	if err := h.Kernel.SeesAllTasks(); err != nil {
		return nil, err
	}
	if !opt.DryRun {
		unlock, err := h.lock()
		if err != nil {
			return nil, err
		}
		defer unlock()
	}
	image, m, err := manifest.ReadDriver(file)
	if err != nil {
		return nil, err
	}
	verdict, err := h.vouch(file, image, m)
	if err != nil {
		return nil, err
	}
	if verdict.Refused != nil {
		return nil, verdict.Refused
	}
	x := &exchange{h: h, opt: &opt, image: image, name: m.Name, result: &Result{Update: m.Name, Module: m.Units[0].Name, Manifest: m, Warnings: verdict.Warnings}}
	past, err := h.history()
	if err != nil {
		return nil, err
	}
	if err := h.barred(past, m.Name, m.Units[0].Driver.BuildID); err != nil {
		return nil, err
	}
	if _, err := h.settledHistory(); err != nil {
		return nil, err
	}
	if err := x.check(ctx, m); err != nil {
		return nil, err
	}
	if opt.DryRun {
		return x.result, nil
	}
	return x.result, x.run(ctx, KindDriver)
}

// check finds the version that runs and holds both against each other and the host.
func (x *exchange) check(ctx context.Context, m *manifest.Manifest) error {
	h, module := x.h, m.Units[0].Name
	release, err := h.Kernel.Release()
	if err != nil {
		return err
	}
	if m.Release != release {
		return refuse.New(refuse.WrongRelease, m.Name, "it is for kernel %s, this is %s", m.Release, release)
	}
	running, err := h.Kernel.ModuleBuildID(module)
	if errors.Is(err, fs.ErrNotExist) {
		// It says why: not loaded, built in.
		_, err = compat.Shipped(h.Kernel, module)
	}
	if err != nil {
		return err
	}
	newID, err := kpatch.ImageBuildID(x.image)
	if err != nil {
		return err
	}
	if newID == running {
		return refuse.New(refuse.AlreadyApplied, m.Name, "the driver that runs is this very one")
	}
	if err := x.found(module, running); err != nil {
		return err
	}
	params, err := x.fits(ctx)
	if err != nil {
		return err
	}
	x.to = &versions.DriverVersion{Module: module, Number: x.from.Number + 1, BuildID: newID, Params: params, Manifest: m}
	if err := h.needShadow(ctx, module); err != nil {
		return err
	}
	return nil
}

// found fills in the version that runs: one of the store's, or what was shipped.
func (x *exchange) found(module, running string) error {
	list, err := x.h.Drivers.Versions(module)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(list, func(v *versions.DriverVersion) bool { return v.BuildID == running })
	if i >= 0 {
		x.from = list[i]
		x.fromImage, err = x.h.Drivers.Image(x.from)
		return err
	}
	image, err := compat.Shipped(x.h.Kernel, module)
	if err != nil {
		return err
	}
	x.from = &versions.DriverVersion{Module: module, BuildID: running}
	x.fromImage = image.Bytes
	return nil
}

func (h *Host) barred(past []*past, name, buildID string) error {
	boot, err := h.Kernel.BootID()
	if err != nil {
		return err
	}
	if why := bars(past, boot)[buildID]; why != "" {
		return refuse.New(refuse.Barred, name, "%s", why)
	}
	return nil
}

// run carries the exchange out.
func (x *exchange) run(ctx context.Context, kind Kind) error {
	c, err := x.h.newChange(kind, x.opt)
	if err != nil {
		return err
	}
	x.change = c
	c.Updates = []string{x.name}
	c.Steps = x.steps()
	if kind == KindDriver && x.opt.Probation.For > 0 {
		w, err := x.watched(ctx)
		if err != nil {
			return err
		}
		defer w.Close()
	}
	c.Steps = append(c.Steps, x.lastSteps()...)
	j, err := journal.Open(x.h.journalPath())
	if err != nil {
		return err
	}
	defer j.Close()
	defer x.close()
	return c.run(ctx, j, x.opt.report)
}

// watched puts the change on probation, from before the new driver is loaded.
func (x *exchange) watched(ctx context.Context) (*probation.Watch, error) {
	if err := x.opt.Probation.Healthy(ctx); err != nil {
		return nil, err
	}
	w := probation.Open(x.h.Kernel, x.opt.Probation)
	for i := range x.change.Steps {
		if s := &x.change.Steps[i]; s.Name == stepInitialise {
			do := s.Do
			s.Do = func(ctx context.Context) error {
				w.Add(probation.Update{Name: x.name, Module: x.module(), Units: []probation.Unit{{Name: x.module()}}})
				return do(ctx)
			}
		}
	}
	x.change.Steps = append(x.change.Steps, Step{Name: probationStep, Update: x.name, BuildID: x.to.BuildID, Module: x.module, Do: func(ctx context.Context) error {
		out, err := w.Run(ctx)
		x.result.Probation = out
		return err
	}})
	return w, nil
}
