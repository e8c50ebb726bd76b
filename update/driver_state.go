// SPDX-License-Identifier: Apache-2.0

package update

import (
	"context"
	"fmt"
	"time"

	"github.com/lupatch/lupatch/internal/netns"
	"github.com/lupatch/lupatch/shadow"
	"github.com/lupatch/lupatch/shadow/state"
)

// Outage is what the replacement of a driver meant for one device. Times count from
// the moment in which the old driver was stopped; those that have not come are 0.
type Outage struct {
	Device string `json:"device"`
	Parent string `json:"parent"`
	// Reopened is when the new driver was open, Carrier when it had its link, Released
	// when packets that waited went on, FirstPacket when the driver was given one.
	Reopened    time.Duration `json:"reopened_ns"`
	Carrier     time.Duration `json:"carrier_ns,omitempty"`
	Released    time.Duration `json:"released_ns"`
	FirstPacket time.Duration `json:"first_packet_ns,omitempty"`
	// Lost is how many abilities the new driver lacks, Unset how many settings it did
	// not take.
	Lost  int `json:"lost,omitempty"`
	Unset int `json:"unset,omitempty"`
}

func outages(list []*shadow.Device) []Outage {
	out := []Outage{}
	for _, d := range list {
		o := Outage{Device: d.Name, Parent: d.Parent, Lost: d.Lost, Unset: d.Unset}
		for _, t := range []struct {
			m  shadow.Moment
			to *time.Duration
		}{{shadow.MomentOpened, &o.Reopened}, {shadow.MomentCarrier, &o.Carrier}, {shadow.MomentReleased, &o.Released}, {shadow.MomentSent, &o.FirstPacket}} {
			*t.to, _ = d.Since(t.m)
		}
		out = append(out, o)
	}
	return out
}

// devices lists the session's devices as package state knows them.
func (x *exchange) devices() ([]state.Device, error) {
	list, err := x.session.All()
	if err != nil {
		return nil, err
	}
	var out []state.Device
	for _, d := range list {
		ns, err := netns.Find(uint32(d.NetNS))
		if err != nil {
			return nil, fmt.Errorf("looking for %s: %w", d.Name, err)
		}
		s, err := state.FindIn(ns, d.Name)
		if err != nil {
			return nil, err
		}
		out = append(out, s)
	}
	return out, nil
}

// capture reads what the shadow does not: settings outside of the driver that go with
// its interrupts and queues, and all that can be read, for comparison.
func (x *exchange) capture(ctx context.Context) error {
	devices, err := x.devices()
	if err != nil {
		return err
	}
	x.settings = map[state.Device]state.Settings{}
	for _, d := range devices {
		s, err := state.Read(ctx, d)
		if err != nil {
			return fmt.Errorf("reading the state of %s: %w", d.Interface, err)
		}
		x.states = append(x.states, s)
		if x.settings[d], err = state.ReadSettings(ctx, d); err != nil {
			return fmt.Errorf("reading the settings of %s: %w", d.Interface, err)
		}
	}
	return nil
}

// transfer puts it back. What cannot be put back is told, and changes nothing: the
// driver works.
func (x *exchange) transfer(ctx context.Context) error {
	for _, s := range x.states {
		for _, l := range s.Replay(ctx) {
			x.result.Warnings = append(x.result.Warnings, s.Device.Interface+": "+l.String())
		}
	}
	for _, e := range x.session.Log(0) {
		if e.Kind == shadow.EventReplay || e.Kind == shadow.EventNote {
			x.result.Warnings = append(x.result.Warnings, x.told(e))
		}
		if e.Kind == shadow.EventLost && x.opt.Lenient && !x.cut {
			x.result.Warnings = append(x.result.Warnings, x.told(e))
		}
	}
	return nil
}

// compare says which settings are not as they were, once the link is there.
func (x *exchange) compare(ctx context.Context) {
	for d, before := range x.settings {
		after, err := state.ReadSettings(ctx, d)
		if err != nil {
			x.result.Warnings = append(x.result.Warnings, fmt.Sprintf("%s: its settings cannot be read: %v", d.Interface, err))
			continue
		}
		for _, diff := range state.Compare(before, after) {
			if diff.Negotiated {
				continue
			}
			x.result.Warnings = append(x.result.Warnings, d.Interface+": "+diff.String())
		}
	}
}

func (x *exchange) told(e shadow.Event) string {
	where := x.module()
	if d, err := x.session.Device(e.Device); err == nil {
		where = d.Name
	}
	switch e.Kind {
	case shadow.EventReplay:
		return fmt.Sprintf("%s: not put back: %s", where, e.Text)
	case shadow.EventLost:
		return fmt.Sprintf("%s: the new driver lacks %s", where, e.Text)
	}
	return where + ": " + e.Text
}
