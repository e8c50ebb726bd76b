// SPDX-License-Identifier: Apache-2.0

package build

import (
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/lupatch/lupatch/internal/elfobj"
	"github.com/lupatch/lupatch/internal/kallsyms"
	"github.com/lupatch/lupatch/internal/kbuild"
	"github.com/lupatch/lupatch/internal/manifest"
	"github.com/lupatch/lupatch/internal/refuse"
	"github.com/lupatch/lupatch/internal/runpre"
	"github.com/lupatch/lupatch/patchgen"
)

// job is one build under way.
type job struct {
	opt     Options
	tree    *kbuild.Tree
	overlay *kbuild.Overlay
	change  *change
	stack   *stack // nil if the update stands on none
	clock   *clock
	notes   []string
	review  []string
	// headers says that the patch changes what other files include.
	headers bool
	// compiled are all units that were compiled in both versions, those too that
	// turned out the same.
	compiled []*unit
	// moved names functions without ftrace site of which the update has a copy.
	moved []string
	// recalled are global functions whose prototype changes, and slots pointers
	// to functions.
	recalled, slots map[string]bool

	image   *kallsyms.Image
	syms    *kallsyms.Table
	exports map[string]kbuild.Export
	sizes   patchgen.Sizes
	sealed  map[uint64]bool // functions of vmlinux without ENDBR; see sealedKernel
	modules map[string]*shippedModule
}

// shippedModule is a module as the distribution ships it.
type shippedModule struct {
	obj     *elfobj.File
	buildID string
	sealed  map[codePlace]bool
}

// unit is one translation unit on its way through the build.
type unit struct {
	tu *kbuild.TU
	// shipped has the kernel's own flags; old and new are to be compared.
	shipped, old, new *elfobj.File
	shippedPath       string
	oldPath, newPath  string
	// inForce is the version that the bases have brought into force, if there are any.
	inForce     *elfobj.File
	inForcePath string
	placed      *runpre.Result
	input       patchgen.Input // what result was made of
	result      *patchgen.Result
	digests     map[string]patchgen.Digest
	// lines are those of the old version's functions.
	lines patchgen.Extents
	// byHeader says that the patch does not touch the source itself, only
	// something that it includes.
	byHeader bool
	// prototypes are the new version's, recalled its functions whose prototype
	// changes.
	prototypes *patchgen.Prototypes
	recalled   map[string]bool
	// caller says that the unit is there only because it calls what another moves.
	caller bool
}

func (j *job) run(ctx context.Context) ([]byte, *manifest.Manifest, error) {
	units, err := j.compile(ctx)
	if err != nil {
		return nil, nil, err
	}
	j.clock.start("verify")
	if err := j.readShipped(ctx, units); err != nil {
		return nil, nil, err
	}
	if err := j.checkBinaries(); err != nil {
		return nil, nil, err
	}
	for _, u := range units {
		if err := j.verify(u); err != nil {
			return nil, nil, err
		}
	}
	j.clock.start("diff")
	if units, err = j.generate(ctx, units); err != nil {
		return nil, nil, err
	}
	j.clock.start("link")
	return j.link(ctx, units)
}

// readShipped opens what the distribution ships of the units under work. The
// kernel image is needed in any case: modules refer to it too.
func (j *job) readShipped(ctx context.Context, units []*unit) error {
	path, err := j.tree.Shipped(ctx, patchgen.VMLinux)
	if err != nil {
		return err
	}
	if j.image, err = kallsyms.Open(path); err != nil {
		return fmt.Errorf("reading the kernel image %s: %w", path, err)
	}
	if j.syms, err = j.image.Symbols(); err != nil {
		return fmt.Errorf("reading the symbols of %s: %w", path, err)
	}
	if j.exports, err = j.tree.ModuleSymvers(); err != nil {
		return err
	}
	if j.sizes, err = structSizes(j.image); err != nil {
		return err
	}
	if j.sealed, err = sealedKernel(j.image); err != nil {
		return err
	}
	j.modules = map[string]*shippedModule{}
	return j.readModules(ctx, units)
}

func (j *job) readModules(ctx context.Context, units []*unit) error {
	for _, u := range units {
		if name := u.tu.Unit; name != patchgen.VMLinux && j.modules[name] == nil {
			path, err := j.tree.Shipped(ctx, name)
			if err != nil {
				return err
			}
			if j.modules[name], err = readModule(path); err != nil {
				return err
			}
		}
	}
	return nil
}

func readModule(path string) (*shippedModule, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	f, err := elfobj.Read(b)
	if err != nil {
		return nil, fmt.Errorf("reading the shipped module %s: %w", path, err)
	}
	return &shippedModule{obj: f, buildID: buildID(f), sealed: sealedModule(f)}, nil
}

// verify compares a unit with the shipped binary.
func (j *job) verify(u *unit) (err error) {
	theirs := ""
	if u.tu.Unit == patchgen.VMLinux {
		u.placed, err = runpre.Kernel(u.shipped, j.image, j.syms)
		theirs = imageCompiler(j.image)
	} else {
		m := j.modules[u.tu.Unit]
		u.placed, err = runpre.Module(u.tu.Unit, u.shipped, m.obj)
		theirs = runpre.Compiler(m.obj)
	}
	if err != nil {
		return fmt.Errorf("verifying %s: %w", u.tu.Source, err)
	}
	bad := u.placed.Err(runpre.Compiler(u.shipped), theirs)
	if bad != nil && !j.opt.NoVerify {
		return bad
	}
	if bad != nil {
		j.notes = append(j.notes, "not verified, as asked: "+bad.Error())
	}
	return nil
}

// generate makes the livepatch object of every unit.
// gives the units again, with those that have to be part of it too.
func (j *job) generate(ctx context.Context, units []*unit) ([]*unit, error) {
	for _, u := range units {
		err := checkLayouts(u.oldPath, u.newPath)
		if e, ok := refuse.As(err); ok && e.ID == refuse.StructLayout {
			return nil, j.explainLayout(units, u, e)
		}
		if err == nil && j.stack != nil {
			err = checkLayouts(u.inForcePath, u.newPath)
		}
		if err != nil {
			return nil, err
		}
	}
	if err := j.checkInterfaces(ctx, units); err != nil {
		return nil, err
	}
	units, moved, err := j.compare(ctx, units)
	if err != nil {
		return nil, err
	}
	var ran, added []string
	empty, redirects := true, false
	for _, u := range units {
		if len(u.result.Late) > 0 {
			if u.result, err = j.readKeys(ctx, u, u.input, u.result); err != nil {
				return nil, err
			}
		}
		if err := j.checkInForce(u); err != nil {
			return nil, err
		}
		res := u.result
		ran = append(ran, res.AlreadyRan...)
		if !res.Empty() {
			empty = false
			redirects = redirects || res.Acts()
			for _, f := range res.Functions {
				switch {
				case f.New:
					added = append(added, f.Name)
				case f.InitOnly && u.tu.Unit == patchgen.VMLinux:
					ran = append(ran, f.Name) // the kernel boots once
				default:
					redirects = true
				}
			}
			if err := j.digests(u); err != nil {
				return nil, err
			}
		}
	}
	if err := moved.check(units); err != nil {
		return nil, err
	}
	j.moved = moved.names()
	if err := j.checkLateInit(units); err != nil {
		return nil, err
	}
	if err := j.unusedRule(units); err != nil {
		return nil, err
	}
	switch {
	case !redirects && len(ran) > 0:
		return nil, refuse.New(refuse.OnlyInit, ran[0], "of the code only this has changed, and it has already run")
	case empty:
		return nil, refuse.New(refuse.NothingChanged, units[0].tu.Source, "old and new version compile to the same machine code, as far as the running kernel uses it")
	case !redirects:
		return nil, refuse.New(refuse.NothingChanged, units[0].tu.Source, "it adds %s, but no function of the running kernel changes", strings.Join(added, ", "))
	}
	return units, nil
}

// digests describes the shipped code of the functions to be replaced.
func (j *job) digests(u *unit) (err error) {
	var names []string
	for _, f := range u.result.Functions {
		if !f.New {
			names = append(names, f.Name)
		}
	}
	if err := j.freed(u, names); err != nil {
		return err
	}
	for _, n := range names {
		if bad := u.placed.Mismatch(n); bad != nil {
			return bad // --no-verify does not go as far as replacing unknown code
		}
	}
	u.digests, err = patchgen.Digests(u.shipped, j.sizes, names)
	return err
}
