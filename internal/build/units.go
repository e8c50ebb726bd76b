// SPDX-License-Identifier: Apache-2.0

package build

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/lupatch/lupatch/internal/elfobj"
	"github.com/lupatch/lupatch/internal/kbuild"
	"github.com/lupatch/lupatch/internal/refuse"
)

// compile makes three objects of every unit: as shipped, to verify; and old
// and new with a section for each function, to compare. Of a unit that is there
// because of a header only, the first is left out as long as the other two may
// turn out the same.
func (j *job) compile(ctx context.Context) ([]*unit, error) {
	units, err := j.units(ctx)
	if err != nil {
		return nil, err
	}
	j.clock.start("compile")
	c := &compilations{job: j}
	for _, u := range units {
		c.add(u, kbuild.Sections, nil, &u.oldPath)
		c.add(u, kbuild.Sections, j.overlay, &u.newPath)
		if j.stack != nil {
			c.add(u, kbuild.Sections, j.stack.overlay, &u.inForcePath)
		}
		if !u.byHeader {
			c.add(u, kbuild.Shipped, nil, &u.shippedPath)
		}
	}
	if err := c.run(ctx); err != nil {
		return nil, err
	}
	j.compiled = units
	units, err = keep(units, func(u *unit) (bool, error) {
		same, err := j.noPart(u)
		if err == nil && !same && u.byHeader {
			c.add(u, kbuild.Shipped, nil, &u.shippedPath)
		}
		return !same, err
	})
	if err != nil {
		return nil, err
	}
	if len(units) == 0 {
		return nil, refuse.New(refuse.NothingChanged, j.change.first(), "old and new version compile to the same machine code in every file that reads it")
	}
	if err := c.run(ctx); err != nil {
		return nil, err
	}
	for _, u := range units {
		if err := u.read(); err != nil {
			return nil, err
		}
	}
	return units, nil
}

// read reads the objects that were compiled.
func (u *unit) read() (err error) {
	for _, o := range []struct {
		path string
		to   **elfobj.File
	}{{u.shippedPath, &u.shipped}, {u.oldPath, &u.old}, {u.newPath, &u.new}, {u.inForcePath, &u.inForce}} {
		if o.path == "" {
			continue
		}
		if *o.to, err = elfobj.ReadFile(o.path); err != nil {
			return err
		}
	}
	return nil
}

// compilations collects what to compile, and where each object's path goes.
type compilations struct {
	job  *job
	jobs []kbuild.Job
	to   []*string
}

func (c *compilations) add(u *unit, f kbuild.Flavor, ov *kbuild.Overlay, to *string) {
	c.jobs, c.to = append(c.jobs, c.job.compilation(u, f, ov)), append(c.to, to)
}

// run compiles what was added since it ran last.
func (c *compilations) run(ctx context.Context) error {
	objs, err := c.job.tree.CompileAll(ctx, c.jobs)
	if err != nil {
		return err
	}
	for i, o := range objs {
		*c.to[i] = o.Path
	}
	c.jobs, c.to = nil, nil
	return nil
}

// noPart says whether a unit has no part in the update. Of a unit whose source
// the patch touches it is left to the comparison, which knows more.
func (j *job) noPart(u *unit) (bool, error) {
	if j.stack == nil && !u.byHeader {
		return false, nil
	}
	if j.stack != nil {
		if same, err := kbuild.SameContents(u.inForcePath, u.newPath); err != nil || !same || !j.opt.Cumulative {
			return same, err
		}
	}
	return kbuild.SameContents(u.oldPath, u.newPath)
}

func (j *job) compilation(u *unit, f kbuild.Flavor, ov *kbuild.Overlay) kbuild.Job {
	return kbuild.Job{TU: u.tu, Flavor: f, Overlay: ov, ExtraFlags: j.opt.ExtraFlags}
}

// keep gives the units for which f says yes.
func keep(units []*unit, f func(*unit) (bool, error)) (out []*unit, err error) {
	for _, u := range units {
		yes, err := f(u)
		if err != nil {
			return nil, err
		}
		if yes {
			out = append(out, u)
		}
	}
	return out, nil
}

// units lists what to compile: the C files that the patch changes, and those
// whose code a changed header may alter.
func (j *job) units(ctx context.Context) ([]*unit, error) {
	var units []*unit
	var direct, included []string
	for _, name := range slices.Sorted(maps.Keys(j.change.files)) {
		if !strings.HasSuffix(name, ".c") {
			included = append(included, name)
			continue
		}
		reached, err := j.tree.Included(ctx, name)
		if err != nil {
			return nil, err
		}
		if reached {
			included = append(included, name)
		}
		tu, err := j.tree.TU(ctx, name)
		if e, ok := refuse.As(err); ok && e.ID == refuse.PatchScope && reached {
			continue // it is a part of other files only
		} else if err != nil {
			return nil, err
		}
		direct = append(direct, name)
		units = append(units, &unit{tu: tu})
	}
	if j.headers = len(included) > 0; j.headers {
		j.clock.start("headers")
		a, err := j.tree.Affected(ctx, j.overlay, included, direct, j.opt.MaxUnits)
		if err != nil {
			return nil, err
		}
		j.notes = append(j.notes, fmt.Sprintf("%s: %d files may read it; %d were compared, in %d the preprocessed text differs, %d are compiled",
			strings.Join(included, ", "), a.Readers, a.Compared, a.Differ, len(a.Units)))
		for _, tu := range a.Units {
			units = append(units, &unit{tu: tu, byHeader: true})
		}
		if len(units) == 0 && a.Readers == 0 && j.stack == nil {
			return nil, refuse.New(refuse.NothingChanged, included[0], "only comments differ, or no file that this configuration builds reads it")
		}
	}
	for _, name := range j.replacedEarlier() {
		if slices.ContainsFunc(units, func(u *unit) bool { return u.tu.Source == name }) {
			continue
		}
		tu, err := j.tree.TU(ctx, name)
		if err != nil {
			return nil, err
		}
		units = append(units, &unit{tu: tu, byHeader: true})
	}
	if len(units) == 0 {
		return nil, refuse.New(refuse.NothingChanged, j.change.first(), "no file that this configuration builds makes other code of it")
	}
	return units, nil
}
