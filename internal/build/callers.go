// SPDX-License-Identifier: Apache-2.0

package build

import (
	"cmp"
	"context"
	"fmt"
	"path"
	"slices"

	"github.com/lupatch/lupatch/internal/elfobj"
	"github.com/lupatch/lupatch/internal/kbuild"
	"github.com/lupatch/lupatch/internal/refuse"
	"github.com/lupatch/lupatch/patchgen"
)

// callers finds the units that use a function to be moved and are not among units
// yet, and makes them ready to be compared.
func (s *moves) callers(ctx context.Context, units []*unit, m *move) ([]*unit, error) {
	j := s.job
	var err error
	if m.exported {
		if m.importers, err = j.tree.Importers(ctx, m.names...); err != nil {
			return nil, err
		}
	}
	search := []string{m.unit.tu.Unit}
	for _, i := range m.importers {
		if i != m.unit.tu.Unit {
			search = append(search, i)
		}
	}
	tus, err := j.tree.Users(ctx, search, m.names, nil)
	if err != nil {
		return nil, err
	}
	here := map[string]bool{} // objects
	seen := map[string]bool{} // units of the kernel
	for _, u := range units {
		here[u.tu.Object], seen[u.tu.Unit] = true, true
		if tellsBPF(u.shipped, m.names) {
			return nil, m.refuse([]string{"BPF programs"}, "may call it")
		}
	}
	tus = slices.DeleteFunc(tus, func(u *kbuild.TU) bool { return here[u.Object] })
	if most := cmp.Or(j.opt.MaxUnits, MaxCallers); s.added+len(tus) > most {
		e := refuse.New(refuse.NoFtraceSite, m.names[0], "it has no ftrace site, and %d more files that may call it would have to be compiled (at most %d are)", s.added+len(tus), most)
		e.Remedy = "give --max-units, or change its callers instead"
		return nil, e
	}
	tus, err = s.using(ctx, tus, m)
	if err != nil {
		return nil, err
	}
	for _, u := range tus {
		seen[u.Unit] = true
	}
	for _, i := range m.importers {
		if !seen[i] {
			return nil, m.refuse([]string{"module " + i}, "calls it from a file that was not found")
		}
	}
	s.added += len(tus)
	return j.unchanged(ctx, tus)
}

// using leaves out files of which the objects do not use the function, and refuses
// what is no C.
func (s *moves) using(ctx context.Context, tus []*kbuild.TU, m *move) (out []*kbuild.TU, err error) {
	var jobs []kbuild.Job
	for _, u := range tus {
		if path.Ext(u.Source) != ".c" {
			return nil, m.refuse([]string{u.Source}, "is assembly")
		}
		jobs = append(jobs, kbuild.Job{TU: u, Flavor: kbuild.Shipped, ExtraFlags: s.job.opt.ExtraFlags})
	}
	objs, err := s.job.tree.CompileAll(ctx, jobs)
	if err != nil {
		return nil, err
	}
	for i, u := range tus {
		f, err := elfobj.ReadFile(objs[i].Path)
		if err != nil {
			return nil, err
		}
		if tellsBPF(f, m.names) {
			return nil, m.refuse([]string{"BPF programs"}, fmt.Sprintf("may call it (%s)", placeOf(u)))
		}
		if refersTo(f, m.names, u.Unit == patchgen.VMLinux) {
			out = append(out, u)
		}
	}
	return out, nil
}

// unchanged makes units of files that the patch leaves as they are.
func (j *job) unchanged(ctx context.Context, tus []*kbuild.TU) ([]*unit, error) {
	var jobs []kbuild.Job
	for _, tu := range tus {
		u := &unit{tu: tu}
		jobs = append(jobs, j.compilation(u, kbuild.Sections, nil), j.compilation(u, kbuild.Shipped, nil))
	}
	objs, err := j.tree.CompileAll(ctx, jobs)
	if err != nil {
		return nil, err
	}
	var out []*unit
	for i, tu := range tus {
		u := &unit{tu: tu, caller: true, recalled: map[string]bool{}, oldPath: objs[2*i].Path, newPath: objs[2*i].Path, shippedPath: objs[2*i+1].Path}
		if err := u.read(); err != nil {
			return nil, err
		}
		out = append(out, u)
	}
	if err := j.readModules(ctx, out); err != nil {
		return nil, err
	}
	for _, u := range out {
		if err := j.verify(u); err != nil {
			return nil, err
		}
	}
	return out, nil
}
