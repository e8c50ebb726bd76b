// SPDX-License-Identifier: Apache-2.0

package update

import (
	"context"

	"github.com/lupatch/lupatch/internal/journal"
	"github.com/lupatch/lupatch/internal/manifest"
	"github.com/lupatch/lupatch/internal/refuse"
	"github.com/lupatch/lupatch/kpatch"
)

// Apply applies the update files, in the order given, as one change: all of them
// or none. It needs root. Refusals are those of manifest.ReadModule,
// sign.ReadPolicy, sign.Policy.Check, versions.State.Check, kpatch.Kernel.Load,
// PIDNamespace, Unfinished, Barred and TransitionReversed. When ctx ends it is taken
// back as at the deadline. With Options.Probation a *probation.Failure is in the chain
// if it was taken back for what was seen; HealthCheck is the refusal of a check that
// fails before.
func (h *Host) Apply(ctx context.Context, files []string, opt Options) ([]Result, error) {
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
	var list []*livepatch
	for _, file := range files {
		l, err := h.open(file, &opt)
		if err != nil {
			return nil, err
		}
		list = append(list, l)
	}
	if err := vouchedFor(list); err != nil {
		return nil, err
	}
	if err := h.checkAll(ctx, list); err != nil {
		return nil, err
	}
	past, err := h.settledHistory()
	if err != nil {
		return nil, err
	}
	if err := h.checkBars(past, list); err != nil {
		return nil, err
	}
	if !opt.DryRun {
		err = h.applyAll(ctx, KindApply, list, &opt)
	}
	if err != nil {
		return nil, err
	}
	var results []Result
	for _, l := range list {
		results = append(results, *l.result)
	}
	return results, nil
}

// open reads an update. What is checked from here on, and loaded in the end, are the
// bytes that were read.
func (h *Host) open(file string, opt *Options) (*livepatch, error) {
	image, m, err := manifest.ReadModule(file)
	if err != nil {
		return nil, err
	}
	verdict, err := h.vouch(file, image, m)
	if err != nil {
		return nil, err
	}
	l := &livepatch{h: h, opt: opt, image: image, manifest: m, verdict: verdict, result: &Result{Update: m.Name, Manifest: m, Warnings: verdict.Warnings}}
	if l.buildID, err = kpatch.ImageBuildID(image); err != nil {
		return nil, err
	}
	if l.buildID == "" {
		return nil, refuse.New(refuse.NotAnUpdate, file, "its module has no build id")
	}
	if name, err := kpatch.ModuleName(image); err != nil {
		return nil, err
	} else if name != m.Name {
		return nil, refuse.New(refuse.NotAnUpdate, file, "its manifest is that of %s, the module is %s", m.Name, name)
	}
	return l, nil
}

// checkAll checks each update on the state that the ones before it will leave.
func (h *Host) checkAll(ctx context.Context, list []*livepatch) error {
	state, err := h.State(ctx)
	if err != nil {
		return err
	}
	for _, l := range list {
		if err := state.Check(l.manifest, l.buildID); err != nil {
			return err
		}
		state = state.With(l.manifest, l.buildID)
	}
	return nil
}

// checkBars refuses what this host has had bad experience with.
func (h *Host) checkBars(past []*past, list []*livepatch) error {
	boot, err := h.Kernel.BootID()
	if err != nil {
		return err
	}
	bars := bars(past, boot)
	for _, l := range list {
		if why := bars[l.buildID]; why != "" {
			return refuse.New(refuse.Barred, l.manifest.Name, "%s", why)
		}
	}
	return nil
}

// applyAll carries the change out.
func (h *Host) applyAll(ctx context.Context, kind Kind, list []*livepatch, opt *Options) error {
	c, err := h.newChange(kind, opt)
	if err != nil {
		return err
	}
	for _, l := range list {
		c.Updates = append(c.Updates, l.manifest.Name)
		c.Steps = append(c.Steps, l.steps()...)
	}
	if opt.Probation.For > 0 {
		steps, w, err := h.watched(ctx, c.Steps, list, opt)
		if err != nil {
			return err
		}
		defer w.Close()
		c.Steps = steps
	}
	j, err := journal.Open(h.journalPath())
	if err != nil {
		return err
	}
	defer j.Close()
	for _, l := range list {
		l.note = func(step, detail string) error {
			return c.note(j, journal.Record{Update: l.manifest.Name, Module: l.module, BuildID: l.buildID, Step: step, State: journal.Begin, Detail: detail})
		}
	}
	return c.run(ctx, j, opt.report)
}
