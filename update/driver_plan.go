// SPDX-License-Identifier: Apache-2.0

package update

import (
	"context"

	"github.com/lupatch/lupatch/internal/manifest"
	"github.com/lupatch/lupatch/internal/refuse"
	"github.com/lupatch/lupatch/shadow/compat"
)

// DriverPlan is what the replacement of a driver would meet.
type DriverPlan struct {
	Update string `json:"update"`
	// Module is the driver's, From and To are its versions on this host (0 is the one
	// that was found) with their build ids.
	Module string        `json:"module"`
	From   PlannedDriver `json:"from"`
	To     PlannedDriver `json:"to"`
	// Devices are the network interfaces that stand still meanwhile.
	Devices []string `json:"devices"`
	// Params are what the new driver is loaded with, Load the modules that are loaded
	// before it.
	Params string   `json:"params,omitempty"`
	Load   []string `json:"load,omitempty"`
	// Notes are sentences on what does not stand in the way.
	Notes []string `json:"notes,omitempty"`
	// Refused is why it would be refused; nil if it would be tried. What a driver offers
	// shows only when it registers its devices.
	Refused *refuse.Error `json:"refused,omitempty"`
}

// PlannedDriver is one of the two versions.
type PlannedDriver struct {
	Version int    `json:"version"`
	BuildID string `json:"build_id"`
}

// PlanDriver says what ApplyDriver would meet. It touches nothing, and needs root as
// far as package compat does.
func (h *Host) PlanDriver(ctx context.Context, file string, opt Options) (*DriverPlan, error) {
	image, m, err := manifest.ReadDriver(file)
	if err != nil {
		return nil, err
	}
	x := &exchange{h: h, opt: &opt, image: image, name: m.Name, result: &Result{Update: m.Name, Manifest: m}}
	p := &DriverPlan{Update: m.Name, Module: m.Units[0].Name, To: PlannedDriver{BuildID: m.Units[0].Driver.BuildID}, Devices: []string{}}
	err = x.check(ctx, m)
	if e, ok := refuse.As(err); ok {
		p.Refused = e
	} else if err != nil {
		return nil, err
	}
	p.Notes = x.result.Warnings
	if x.from != nil {
		p.From = PlannedDriver{x.from.Number, x.from.BuildID}
		p.To.Version = x.from.Number + 1
	}
	if x.to != nil {
		p.Params = x.to.Params
	}
	for _, n := range x.needs {
		p.Load = append(p.Load, n.Name)
	}
	if facts, _, err := compat.Host(ctx, h.Kernel, p.Module, compat.HostOptions{Untested: true}); err == nil {
		for _, l := range facts.Links {
			p.Devices = append(p.Devices, l.Name)
		}
	}
	return p, nil
}
