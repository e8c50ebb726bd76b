// SPDX-License-Identifier: Apache-2.0

package build

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path"
	"slices"

	"github.com/lupatch/lupatch/internal/elfobj"
	"github.com/lupatch/lupatch/internal/kbuild"
	"github.com/lupatch/lupatch/internal/refuse"
	"github.com/lupatch/lupatch/patchgen"
)

// maxPreprocessed bounds the files that are preprocessed to find callers, at about
// 0.2 s each.
const maxPreprocessed = 1000

// callers finds the units that use functions to be moved and are not among units
// yet, and makes them ready to be compared.
func (s *moves) callers(ctx context.Context, units []*unit, found []*move) ([]*unit, error) {
	j := s.job
	var search, names []string
	for _, m := range found {
		var err error
		if m.exported {
			if m.importers, err = j.tree.Importers(ctx, m.names...); err != nil {
				return nil, err
			}
		}
		names = append(names, m.names...)
		search = append(append(search, m.unit.tu.Unit), m.importers...)
	}
	slices.Sort(search)
	tus, many, err := j.tree.UsersWithin(ctx, slices.Compact(search), names, nil, maxPreprocessed)
	if err != nil {
		return nil, err
	}
	if many > 0 {
		return nil, refuse.New(refuse.NoFtraceSite, names[0], "it has no ftrace site, and %d files have a part, or make a name with ##, from which it may be called: too many to look through", many)
	}
	here := map[string]bool{} // by object
	for _, u := range units {
		here[u.tu.Object] = true
	}
	tus = slices.DeleteFunc(tus, func(u *kbuild.TU) bool { return here[u.Object] })
	if most := cmp.Or(j.opt.MaxUnits, MaxCallers); s.added+len(tus) > most {
		e := refuse.New(refuse.NoFtraceSite, names[0], "it has no ftrace site, and %d more files that may call it would have to be compiled (at most %d are)", s.added+len(tus), most)
		e.Remedy = "give --max-units, or change its callers instead"
		return nil, e
	}
	more, err := s.using(ctx, tus, found)
	if err != nil {
		return nil, err
	}
	s.added += len(more)
	for _, m := range found {
		if err := m.tellsBPF(append(more, units...)); err != nil {
			return nil, err
		}
		for _, i := range m.importers {
			if !slices.ContainsFunc(append(more, units...), func(u *unit) bool { return u.tu.Unit == i }) {
				return nil, m.refuse([]string{"module " + i}, "calls it from a file that was not found")
			}
		}
	}
	err = j.unchanged(ctx, more)
	var bad *unverified
	if errors.As(err, &bad) {
		e := refuse.New(refuse.NoFtraceSite, names[0], "it has no ftrace site, and %s, which uses it, cannot be verified (%s at %s)", placeOf(bad.unit.tu), bad.why.ID, bad.why.Where)
		e.Help = bad.why.Error() + "\n"
		return nil, e
	}
	return more, err
}

// unverified is a file of callers that is not what the kernel ships.
type unverified struct {
	unit *unit
	why  *refuse.Error
}

func (e *unverified) Error() string { return e.why.Error() }

// tellsBPF refuses a function that BPF programs may call: they are bound to the one
// that the kernel has.
func (m *move) tellsBPF(units []*unit) error {
	for _, u := range units {
		if tellsBPF(u.shipped, m.names) {
			return m.refuse([]string{"BPF programs"}, fmt.Sprintf("may call it (%s)", placeOf(u.tu)))
		}
	}
	return nil
}

// using makes units of those files of which the objects use one of the functions,
// and refuses what is no C.
func (s *moves) using(ctx context.Context, tus []*kbuild.TU, found []*move) (out []*unit, err error) {
	var jobs []kbuild.Job
	for _, u := range tus {
		if path.Ext(u.Source) != ".c" {
			return nil, found[0].refuse([]string{u.Source}, "is assembly")
		}
		jobs = append(jobs, s.job.compilation(&unit{tu: u}, kbuild.Shipped, nil))
	}
	objs, err := s.job.tree.CompileAll(ctx, jobs)
	if err != nil {
		return nil, err
	}
	for i, tu := range tus {
		u := &unit{tu: tu, caller: true, recalled: map[string]bool{}, shippedPath: objs[i].Path}
		if u.shipped, err = elfobj.ReadFile(u.shippedPath); err != nil {
			return nil, err
		}
		if slices.ContainsFunc(found, func(m *move) bool {
			return refersTo(u.shipped, m.names, tu.Unit == patchgen.VMLinux) || tellsBPF(u.shipped, m.names)
		}) {
			out = append(out, u)
		}
	}
	return out, nil
}

// unchanged makes units ready that the patch leaves as they are.
func (j *job) unchanged(ctx context.Context, units []*unit) error {
	var jobs []kbuild.Job
	for _, u := range units {
		jobs = append(jobs, j.compilation(u, kbuild.Sections, nil))
	}
	objs, err := j.tree.CompileAll(ctx, jobs)
	if err != nil {
		return err
	}
	if err := j.readModules(ctx, units); err != nil {
		return err
	}
	for i, u := range units {
		u.oldPath, u.newPath = objs[i].Path, objs[i].Path
		if err := u.read(); err != nil {
			return err
		}
		if err := j.verify(u); err != nil {
			if e, ok := refuse.As(err); ok {
				return &unverified{u, e}
			}
			return err
		}
	}
	return nil
}
