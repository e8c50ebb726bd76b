// SPDX-License-Identifier: Apache-2.0

package build

import (
	"context"

	"github.com/lupatch/lupatch/internal/kbuild"
	"github.com/lupatch/lupatch/patchgen"
)

// Pair is one translation unit before and after a patch, compiled to be
// compared.
type Pair struct {
	// Source is the C file and Unit what it is part of: "vmlinux" or a module.
	Source, Unit string
	// Old and New are objects in the cache, which must not be changed.
	Old, New string
	// Lines is nil if the patch does not touch the source itself.
	Lines *patchgen.LineMap
	// LateObjtool is as in patchgen.Input.
	LateObjtool bool
}

// Pairs compiles what Run would compare, for those who compare objects
// themselves, and leaves out units that only read a changed header and turn out
// the same. Errors are those of Run up to there.
func Pairs(ctx context.Context, opt Options) ([]Pair, error) {
	j, err := prepare(ctx, opt, &clock{progress: opt.Progress})
	if err != nil {
		return nil, err
	}
	defer j.close()
	units, err := j.units(ctx)
	if err != nil {
		return nil, err
	}
	var jobs []kbuild.Job
	for _, u := range units {
		jobs = append(jobs, j.compilation(u, kbuild.Sections, nil), j.compilation(u, kbuild.Sections, j.overlay))
	}
	objs, err := j.tree.CompileAll(ctx, jobs)
	if err != nil {
		return nil, err
	}
	var out []Pair
	for i, u := range units {
		p := Pair{
			Source: u.tu.Source, Unit: u.tu.Unit, Old: objs[2*i].Path, New: objs[2*i+1].Path,
			Lines: j.change.lines[u.tu.Source], LateObjtool: u.tu.Late != nil,
		}
		if u.byHeader {
			same, err := kbuild.SameContents(p.Old, p.New)
			if err != nil {
				return nil, err
			}
			if same {
				continue
			}
		}
		out = append(out, p)
	}
	return out, nil
}
