// SPDX-License-Identifier: Apache-2.0

package update

import (
	"context"
	"errors"
	"io/fs"

	"github.com/lupatch/lupatch/internal/refuse"
	"github.com/lupatch/lupatch/shadow/compat"
	"github.com/lupatch/lupatch/versions"
)

// DriversInForce lists the replaced drivers that run, each with all of its versions up
// to that one.
func (h *Host) DriversInForce() (out [][]*versions.DriverVersion, err error) {
	modules, err := h.Drivers.Modules()
	if err != nil {
		return nil, err
	}
	for _, module := range modules {
		id, err := h.Kernel.ModuleBuildID(module)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		list, err := h.Drivers.Versions(module)
		if err != nil {
			return nil, err
		}
		for i, v := range list {
			if v.BuildID == id && i > 0 {
				out = append(out, list[:i+1])
			}
		}
	}
	return out, nil
}

// RollbackDriver replaces a driver by the version that it has replaced. name is that
// of the update, or of the module. The refusal is NotApplied if it is not at work.
func (h *Host) RollbackDriver(ctx context.Context, name string, opt Options) (*Result, error) {
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
	x, err := h.back(name, &opt)
	if err != nil {
		return nil, err
	}
	// What has come since stands in the way as much as it would have before; that it
	// could be replaced at all has been seen.
	_, on, err := compat.Host(ctx, h.Kernel, x.module(), compat.HostOptions{Untested: true})
	if err == nil {
		err = compat.Refusal(on)
	}
	if err != nil {
		return nil, err
	}
	if _, err := h.settledHistory(); err != nil {
		return nil, err
	}
	if err := h.needShadow(ctx, x.module()); err != nil {
		return nil, err
	}
	if opt.DryRun {
		return x.result, nil
	}
	return x.result, x.run(ctx, KindDriverBack)
}

// back makes the exchange that takes an update of a driver back.
func (h *Host) back(name string, opt *Options) (*exchange, error) {
	all, err := h.DriversInForce()
	if err != nil {
		return nil, err
	}
	for _, list := range all {
		v := list[len(list)-1]
		for _, o := range list[1 : len(list)-1] {
			if o.Manifest.Name == name {
				return nil, refuse.New(refuse.NotNewest, name, "%s stands on it", v.Manifest.Name)
			}
		}
		if v.Manifest.Name != name && v.Module != name {
			continue
		}
		to := list[len(list)-2]
		// As it is loaded, whatever came in between.
		x := &exchange{h: h, opt: opt, from: v, to: to, cut: true, name: v.Manifest.Name,
			result: &Result{Update: v.Manifest.Name, Module: v.Module, Manifest: v.Manifest}}
		if x.fromImage, err = h.Drivers.Image(v); err != nil {
			return nil, err
		}
		if x.image, err = h.Drivers.Image(to); err != nil {
			return nil, err
		}
		return x, nil
	}
	return nil, refuse.New(refuse.NotApplied, name, "no such driver is at work")
}
