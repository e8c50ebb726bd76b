// SPDX-License-Identifier: Apache-2.0

package kbuild

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/sirupsen/logrus"

	"github.com/lupatch/lupatch/internal/refuse"
)

// Driver is a whole module out of some version of the kernel's source.
type Driver struct {
	// Root is that source's root; it is never written to.
	Root string
	// Dir is the module's folder, relative to Root.
	Dir string
	// Module is its name as the kernel calls it.
	Module string
	// Changed are files laid over Root, by path relative to it; nil means removed.
	Changed map[string][]byte
	// Unresolved lets symbols that nobody exports stay open: such a module does not
	// load.
	Unresolved bool
}

// undefinedSymbol is how modpost reports a symbol that the kernel does not export.
var undefinedSymbol = regexp.MustCompile(`modpost: "([^"]+)" \[[^\]]*\] undefined!`)

// BuildDriver compiles a module, of whatever version of the source, against the
// headers, the configuration and the exported symbols of this tree's kernel, and
// gives the content of its .ko. The kernel's own makefiles do it (M=), in a folder
// that goes away; headers that the driver includes by a path relative to its own,
// or to the root by its makefile, are those of its version, all others the
// kernel's. There is no debugging information in it, and no BTF. The same source
// gives the same bytes wherever it lies.
//
// Refusals: CompileFailed; UnresolvedSymbol for symbols that this kernel does not
// export; PatchScope as from DriverModules.
func (t *Tree) BuildDriver(ctx context.Context, d Driver) ([]byte, error) {
	root, tidy, err := t.layDriver(d)
	if err != nil {
		return nil, err
	}
	defer tidy()
	file, err := t.selectModule(ctx, root, d)
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(root, d.Dir)
	args := []string{"KCFLAGS=-g0 -fmacro-prefix-map=" + root + "/=", fmt.Sprintf("-j%d", t.opt.Jobs)}
	if d.Unresolved {
		args = append(args, "KBUILD_MODPOST_WARN=1")
	}
	t.progress("compiling "+d.Module, 0, 0)
	_, log, err := runMake(t.moduleCommand(ctx, t.Obj, dir, args...))
	log = strings.ReplaceAll(log, root+"/", "")
	logrus.Debugf("kbuild: building driver %s: %s", d.Module, log)
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if err != nil {
		return nil, driverFailed(d.Module, log)
	}
	ko, err := os.ReadFile(filepath.Join(dir, file+".ko"))
	if err != nil {
		return nil, fmt.Errorf("building driver %s: the kernel's build ended well: %w", d.Module, err)
	}
	return ko, nil
}

func driverFailed(module, log string) error {
	var missing []string
	for _, m := range undefinedSymbol.FindAllStringSubmatch(log, -1) {
		missing = append(missing, m[1])
	}
	if len(missing) > 0 {
		e := refuse.New(refuse.UnresolvedSymbol, module, "this kernel does not export %s, which that version of the driver uses", strings.Join(missing, ", "))
		e.Remedy = "take a version of the source that is nearer to the kernel's"
		return e
	}
	e := &CompileError{Refusal: refuse.New(refuse.CompileFailed, module, "%s", firstErrors(log, 3)), Source: module, Log: log}
	if m := missingHeader.FindStringSubmatch(log); m != nil {
		e.Missing = m[1]
	}
	e.Refusal.Remedy = "see the compiler's messages; a driver that needs newer headers than this kernel's cannot be taken from that version"
	return e
}

// originalMakefile is the name under which a folder's makefile is kept beside the
// one that chooses a module of it.
const originalMakefile = "Makefile.original"

// layDriver makes a likeness of the driver's source: its folder and those in it
// are real, since objects are written there, and the rest is links.
func (t *Tree) layDriver(d Driver) (root string, tidy func(), err error) {
	real := map[string]bool{}
	withParents(real, d.Dir)
	err = filepath.WalkDir(filepath.Join(d.Root, d.Dir), func(p string, e fs.DirEntry, err error) error {
		if err == nil && e.IsDir() {
			rel, _ := filepath.Rel(d.Root, p)
			real[rel] = true
		}
		return err
	})
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil, refuse.New(refuse.PatchScope, d.Dir, "this version of the source has no such folder")
	}
	if err != nil {
		return "", nil, fmt.Errorf("reading the driver's source: %w", err)
	}
	for p := range d.Changed {
		withParents(real, path.Dir(p))
	}
	if root, err = os.MkdirTemp("", "lupatch-driver-"); err != nil {
		return "", nil, err
	}
	tidy = func() { os.RemoveAll(root) }
	defer func() {
		if err != nil {
			tidy()
		}
	}()
	if root, err = filepath.EvalSymlinks(root); err != nil {
		return "", nil, err
	}
	if err = mirror(d.Root, root, real, func(rel string, e fs.DirEntry) bool { return !e.IsDir() && isProduct(rel) }); err != nil {
		return "", nil, fmt.Errorf("laying out the driver's source: %w", err)
	}
	for p, b := range d.Changed {
		if err = replace(filepath.Join(root, p), b); err != nil {
			return "", nil, fmt.Errorf("laying out the driver's source: %w", err)
		}
	}
	return root, tidy, t.moveMakefile(root, d.Dir)
}

// replace puts a file in the place of what may be a link; nil only removes it.
func replace(file string, content []byte) error {
	if err := os.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if content == nil {
		return nil
	}
	return os.WriteFile(file, content, 0o644)
}

var (
	// Of a module outside of the tree $(src) is absolute already.
	srctreeSrc = regexp.MustCompile(`\$[({]srctree[)}]/\$[({](src|obj)[)}]`)
	// Headers of other drivers are those of the driver's version.
	srctreeDir = regexp.MustCompile(`\$[({]srctree[)}]/(block|drivers|net|sound)\b`)
)

// moveMakefile puts the folder's makefile aside, for the one that selectModule
// writes to include, and leads its paths to the likeness.
func (t *Tree) moveMakefile(root, dir string) error {
	for _, name := range []string{"Kbuild", "Makefile"} {
		p := filepath.Join(root, dir, name)
		b, err := os.ReadFile(p)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		if err := os.Remove(p); err != nil {
			return err
		}
		b = srctreeSrc.ReplaceAll(b, []byte("$$(src)"))
		b = srctreeDir.ReplaceAll(b, []byte(root+"/$1"))
		return os.WriteFile(filepath.Join(root, dir, originalMakefile), b, 0o644)
	}
	return refuse.New(refuse.PatchScope, dir, "the folder has no makefile")
}

// selectModule writes a makefile that builds one module of the folder, and gives
// the name of its file without ".ko".
func (t *Tree) selectModule(ctx context.Context, root string, d Driver) (string, error) {
	mods, err := t.listModules(ctx, filepath.Join(root, d.Dir))
	if err != nil {
		return "", err
	}
	i := slices.IndexFunc(mods, func(m DriverModule) bool { return m.Name == d.Module })
	if i < 0 {
		return "", refuse.New(refuse.PatchScope, d.Dir, "with this kernel's configuration the folder makes no module %s", d.Module)
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "include $(src)/%s\n", originalMakefile)
	// All that kbuild would build besides.
	for _, v := range []string{"obj-y", "lib-y", "lib-m", "subdir-y", "subdir-m", "always-y", "always-m", "hostprogs-always-y"} {
		fmt.Fprintf(&b, "%s :=\n", v)
	}
	fmt.Fprintf(&b, "obj-m := %s.o\n", mods[i].file)
	return mods[i].file, os.WriteFile(filepath.Join(root, d.Dir, "Makefile"), b.Bytes(), 0o644)
}
