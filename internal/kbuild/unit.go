// SPDX-License-Identifier: Apache-2.0

package kbuild

import (
	"context"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/lupatch/lupatch/internal/refuse"
)

// Vmlinux is the name of the unit that is the kernel itself.
const Vmlinux = "vmlinux"

// TU is a translation unit: one C file as the configuration builds it.
type TU struct {
	// Source and Object are paths relative to the tree's root.
	Source, Object string
	// Unit is "vmlinux" or the module's name as the kernel knows it (with
	// underscores).
	Unit string
	// Module is the module's path relative to the tree's root, without ".ko";
	// empty for vmlinux.
	Module string
	// Compile is the compiler's command line, run in Obj.
	Compile []string
	// Objtool are the command lines that work on the object afterwards.
	Objtool [][]string
	// Late is the objtool command line of kernels that run it on what is
	// linked (IBT, LTO), not on each object; nil on others. It is spelled as if
	// it were for this object.
	Late []string
	// Obj is the build folder that the command lines are for.
	Obj string
}

// TU finds how a source file (relative to the tree's root) is compiled.
// Refusal: PatchScope if the configuration does not build it.
func (t *Tree) TU(ctx context.Context, source string) (*TU, error) {
	source = path.Clean(source)
	if !strings.HasSuffix(source, ".c") {
		return nil, refuse.New(refuse.PatchScope, source, "it is not a C file")
	}
	l, dir, err := t.findListing(ctx, source)
	if err != nil {
		return nil, err
	}
	if l == nil {
		return nil, t.notBuilt(source)
	}
	return t.tuOf(ctx, l, dir, l.Sources[source])
}

func (t *Tree) notBuilt(source string) error {
	if !exists(t.Src + "/" + source) {
		return refuse.New(refuse.PatchScope, source, "the source of %s has no such file", t.name())
	}
	return refuse.New(refuse.PatchScope, source, "the configuration of %s does not build this file by itself", t.name())
}

func (t *Tree) name() string {
	if t.Version != "" {
		return t.Release + " (" + t.Version + ")"
	}
	return t.Release
}

// builtElsewhere are folders whose files are built by makefiles that are neither
// theirs nor of a folder above.
var builtElsewhere = map[string]string{"virt/kvm": "arch/x86/kvm"}

// findListing looks for the folder whose makefiles build the source: mostly its
// own, sometimes one above (fs/xfs/libxfs), sometimes one beside that one
// (drivers/gpu/drm/amd). Whole subsystems are not searched: that takes long and
// finds nothing more. It gives no listing if there is none.
func (t *Tree) findListing(ctx context.Context, source string) (*listing, string, error) {
	own := path.Dir(source)
	if other, ok := builtElsewhere[own]; ok {
		own = other
	}
	for dir := own; ; dir = path.Dir(dir) {
		if dir != own && t.Kind != KindModule && !strings.Contains(dir, "/") {
			return nil, "", nil
		}
		l, err := t.list(ctx, dir)
		if err != nil {
			return nil, "", err
		}
		if _, ok := l.Sources[source]; ok {
			return l, dir, nil
		}
		if t.Kind != KindModule && l.blocks(own) {
			if l, err = t.listFull(ctx, dir, source); err != nil {
				return nil, "", err
			}
			if _, ok := l.Sources[source]; ok {
				return l, dir, nil
			}
			return nil, "", nil
		}
		// A folder whose makefile builds others of its files leaves this one out.
		if dir == "." || dir == own && l.builds(dir) {
			return nil, "", nil
		}
	}
}

// builds says whether anything in the folder itself is built.
func (l *listing) builds(dir string) bool {
	for src := range l.Sources {
		if path.Dir(src) == dir {
			return true
		}
	}
	return false
}

// blocks says whether something in the folder cannot be made without host tools.
// make names only what needs the tool directly (security/selinux/flask.h), not
// the objects that need that.
func (l *listing) blocks(dir string) bool {
	for p := range l.Blocked {
		if path.Dir(p) == dir {
			return true
		}
	}
	return false
}

func (t *Tree) tuOf(ctx context.Context, l *listing, dir, obj string) (*TU, error) {
	text, ok := l.Commands[obj]
	if !ok {
		return nil, fmt.Errorf("the makefiles do not say how %s is made", obj)
	}
	tu := &TU{Object: obj, Obj: l.obj, Unit: Vmlinux}
	cmds, err := shellCommands(unmark(text, t.Src, tu.Obj))
	if err != nil {
		return nil, fmt.Errorf("reading the command of %s: %w", obj, err)
	}
	for _, c := range cmds {
		switch {
		case isCompile(c):
			if tu.Compile != nil {
				return nil, fmt.Errorf("reading the command of %s: it compiles twice", obj)
			}
			tu.Compile = c
			tu.Source = relative(c[len(c)-1], t.Src)
		case path.Base(c[0]) == "objtool" && slices.Contains(c, linkedOption):
			tu.Late = c // a module of one object
		case path.Base(c[0]) == "objtool":
			tu.Objtool = append(tu.Objtool, c)
		default:
			// Leaving out a step that is not understood would give an object
			// that is not the distribution's.
			return nil, fmt.Errorf("reading the command of %s: the step %q is not known", obj, c[0])
		}
	}
	if tu.Compile == nil {
		return nil, fmt.Errorf("reading the command of %s: nothing compiles it", obj)
	}
	if slices.Contains(tu.Compile, "-DMODULE") {
		if err := t.setModule(ctx, tu, l, dir); err != nil {
			return nil, err
		}
	}
	return tu, t.setLate(ctx, tu, l)
}

// setModule finds the module that the object is linked into.
func (t *Tree) setModule(ctx context.Context, tu *TU, l *listing, dir string) error {
	for _, a := range tu.Compile {
		if v, ok := strings.CutPrefix(a, "-DKBUILD_MODNAME="); ok {
			tu.Unit = strings.Trim(v, `"`)
		}
	}
	if tu.Unit == Vmlinux {
		return fmt.Errorf("reading the command of %s: it is a module without a name", tu.Object)
	}
	for m, objs := range l.Modules {
		if moduleName(m) == tu.Unit && slices.Contains(objs, tu.Object) {
			tu.Module = m
			return nil
		}
	}
	return fmt.Errorf("reading the makefiles of %s: no module %s is made of %s", dir, tu.Unit, tu.Object)
}

func moduleName(p string) string { return strings.ReplaceAll(path.Base(p), "-", "_") }

// UnitTUs lists all translation units of the module that tu belongs to, in
// link order. Objects made from assembly are not among them. It is an error for
// vmlinux, whose files nobody wants all.
func (t *Tree) UnitTUs(ctx context.Context, tu *TU) ([]*TU, error) {
	if tu.Module == "" {
		return nil, fmt.Errorf("listing the files of %s: it is not a module", tu.Unit)
	}
	for dir := path.Dir(tu.Module); ; dir = path.Dir(dir) {
		l, err := t.list(ctx, dir)
		if err != nil {
			return nil, err
		}
		objs := l.Modules[tu.Module]
		var out []*TU
		for _, o := range objs {
			if text, ok := l.Commands[o]; ok && sourceOf(text) == "" {
				continue
			}
			u, err := t.tuOf(ctx, l, dir, o)
			if err != nil {
				return nil, err
			}
			out = append(out, u)
		}
		if out != nil {
			return out, nil
		}
		if dir == "." {
			return nil, fmt.Errorf("listing the files of %s: the makefiles do not say", tu.Unit)
		}
	}
}
