// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"path/filepath"
	"slices"

	"github.com/lupatch/lupatch/internal/instances"
	"github.com/lupatch/lupatch/internal/manifest"
	"github.com/lupatch/lupatch/kpatch"
)

// alreadyRan lists what changed code of an update has already done on this
// host. It is empty on other kernels than the update is for, and while the update
// is applied: what has happened since went through the new code.
func (h *host) alreadyRan(m *manifest.Manifest) ([]instances.Point, error) {
	release, err := h.kernel.Release()
	if err != nil || release != m.Release {
		return nil, err
	}
	// A livepatch that is disabled has no folder any more.
	folders, err := filepath.Glob(h.kernel.Path("/sys/kernel/livepatch", m.Name+"*"))
	if err != nil {
		return nil, err
	}
	for _, f := range folders {
		if name, _ := kpatch.Generation(filepath.Base(f)); name == m.Name {
			return nil, nil
		}
	}
	return instances.Of(h.kernel.Root, m)
}

// alreadyRanFiles does so for update files.
func (h *host) alreadyRanFiles(files []string) (map[string][]instances.Point, error) {
	out := map[string][]instances.Point{}
	for _, f := range files {
		_, m, err := manifest.ReadModule(f)
		if err != nil {
			return nil, err
		}
		points, err := h.alreadyRan(m)
		if err != nil {
			return nil, err
		}
		if len(points) > 0 {
			out[m.Name] = points
		}
	}
	return out, nil
}

// printRan says at a build, for any host, what the update comes too late for.
func printRan(w io.Writer, u manifest.Unit) {
	const later = "; that part takes effect at the next boot or load"
	for _, name := range u.AlreadyRan {
		fmt.Fprintf(w, "%s: %s has already run%s\n", u.Name, name, later)
	}
	for _, f := range u.Functions {
		for _, p := range f.Params {
			fmt.Fprintf(w, "%s: %s has already run for: the value of parameter %s\n", u.Name, f.Name, p)
		}
		switch {
		case f.Effect == manifest.EffectNextProbe:
			fmt.Fprintf(w, "%s: %s has already run for: devices that are bound; it takes effect for those probed later\n", u.Name, f.Name)
		case f.Effect == manifest.EffectNever && len(f.Params) == 0:
			fmt.Fprintf(w, "%s: %s has already run%s\n", u.Name, f.Name, later)
		}
	}
	for _, d := range u.Data {
		if d.Param != "" {
			fmt.Fprintf(w, "%s: %s is the value of parameter %s, which is set when the unit is loaded\n", u.Name, d.Name, d.Param)
		}
	}
}

func lines(points []instances.Point) []string {
	var out []string
	for _, p := range points {
		if s := p.String(); !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	return out
}
