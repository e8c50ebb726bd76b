// SPDX-License-Identifier: Apache-2.0

package build

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/lupatch/lupatch/internal/kbuild"
	"github.com/lupatch/lupatch/internal/kmodule"
	"github.com/lupatch/lupatch/internal/manifest"
	"github.com/lupatch/lupatch/internal/refuse"
)

// find says which module of which folder is meant.
func (j *driverJob) find(ctx context.Context) error {
	name, file, err := j.place(ctx)
	if err != nil {
		return err
	}
	mods, err := j.tree.DriverModules(ctx, j.root, j.dir, j.changed())
	if err != nil {
		return err
	}
	i, err := j.choose(mods, name, file)
	if err != nil {
		return err
	}
	j.module = mods[i]
	j.helpers = slices.Delete(slices.Clone(mods), i, i+1)
	if j.files, err = kbuild.DriverFiles(j.root, j.dir, j.module.Sources, j.changed()); err != nil {
		return err
	}
	if j.change != nil && !slices.ContainsFunc(slices.Collect(maps.Keys(j.change.files)), func(p string) bool { return j.files[p] != nil }) {
		return refuse.New(refuse.NothingChanged, j.opt.Patch, "the patch touches none of the files of %s", j.module.Name)
	}
	return nil
}

// place takes the path apart: the folder goes into the job; name is set if a module's
// was given, file if a C file was.
func (j *driverJob) place(ctx context.Context) (name, file string, err error) {
	p := j.opt.Path
	if filepath.IsAbs(p) {
		if real, err := filepath.EvalSymlinks(p); err == nil {
			p = real
		}
		if p, err = filepath.Rel(j.root, p); err != nil {
			return "", "", err
		}
	}
	p = path.Clean(filepath.ToSlash(p))
	if strings.HasPrefix(p, "../") {
		return "", "", noDriver(j.opt.Path, "it is not in the source %s", j.root)
	}
	if !strings.Contains(p, "/") && !strings.HasSuffix(p, ".c") {
		name = kmodule.CanonicalName(strings.TrimSuffix(p, ".ko"))
		j.dir, err = j.tree.ShippedFolder(ctx, name)
		return name, "", err
	}
	st, err := os.Stat(filepath.Join(j.root, p))
	if err != nil {
		return "", "", noDriver(p, "the source %s has no such file or folder", j.version)
	}
	if st.IsDir() {
		j.dir = p
		return "", "", nil
	}
	j.dir = path.Dir(p)
	return "", p, nil
}

func noDriver(where, format string, args ...any) error {
	e := refuse.New(refuse.PatchScope, where, format, args...)
	e.Remedy = "name the driver's folder in the kernel's source, one of its C files, or the module"
	return e
}

// choose picks one of a folder's modules.
func (j *driverJob) choose(mods []kbuild.DriverModule, name, file string) (int, error) {
	var fit []int
	var names []string
	for i, m := range mods {
		names = append(names, m.Name)
		if name == m.Name || file != "" && slices.Contains(m.Sources, file) || name == "" && file == "" {
			fit = append(fit, i)
		}
	}
	switch {
	case len(fit) == 1:
		return fit[0], nil
	case len(fit) > 1:
		return 0, noDriver(j.opt.Path, "several modules are made of it: %s", strings.Join(names, ", "))
	case len(mods) == 0:
		return 0, noDriver(j.dir, "with this kernel's configuration the folder makes no module: the driver is built in, or left out")
	}
	return 0, noDriver(j.opt.Path, "no module is made of it; those of the folder are %s", strings.Join(names, ", "))
}

// checkHelpers refuses a driver that uses another module of its folder which is not
// what the kernel has.
func (j *driverJob) checkHelpers(ctx context.Context, ko []byte) error {
	exports, err := j.tree.ModuleSymvers()
	if err != nil {
		return err
	}
	info, err := kmodule.ParseInfo(ko)
	if err != nil {
		return err
	}
	own, err := j.tree.DriverModules(ctx, j.tree.KernelSrc, j.dir, nil)
	if err != nil {
		return err
	}
	for _, h := range j.helpers {
		if !slices.Contains(info.Depends, h.Name) || !exportsAny(exports, j.dir, h.Name) {
			continue
		}
		i := slices.IndexFunc(own, func(m kbuild.DriverModule) bool { return m.Name == h.Name })
		same := false
		if i >= 0 {
			if same, err = kbuild.SameDriver(j.tree.KernelSrc, j.root, j.dir, own[i], h); err != nil {
				return err
			}
		}
		if !same {
			return refuse.New(refuse.DriverSet, j.module.Name, "it needs the module %s, which is made in the same folder and is another one in source %s", h.Name, j.version)
		}
	}
	return nil
}

func exportsAny(exports map[string]kbuild.Export, dir, module string) bool {
	for _, e := range exports {
		if path.Dir(e.Module) == dir && kmodule.CanonicalName(path.Base(e.Module)) == module {
			return true
		}
	}
	return false
}

// compareShipped puts into the manifest what it replaces, and what a person should
// look at.
func (j *driverJob) compareShipped(ctx context.Context, m *manifest.Manifest, ko []byte) error {
	path, err := j.tree.Shipped(ctx, j.module.Name)
	if e, ok := refuse.As(err); ok && e.ID == refuse.SourceUnavailable {
		j.notes = append(j.notes, "what this kernel ships was not found, so that nothing is compared with it: "+e.Detail)
		return nil
	}
	if err != nil {
		return err
	}
	image, err := kmodule.Read(path)
	if err != nil {
		return err
	}
	facts, err := kmodule.Examine(image)
	if err != nil {
		return fmt.Errorf("reading the shipped module %s: %w", path, err)
	}
	info, err := kmodule.ParseInfo(image)
	if err != nil {
		return err
	}
	now, err := kmodule.ParseInfo(ko)
	if err != nil {
		return err
	}
	u := &m.Units[0]
	u.BuildID, u.Driver.PrivateBefore = facts.BuildID, facts.Private
	if u.Driver.Private > facts.Private && facts.Private > 0 {
		m.Review = append(m.Review, fmt.Sprintf("it asks for %d bytes behind each network device, the shipped one for %d: the room has to be there", u.Driver.Private, facts.Private))
	}
	for _, p := range without(info.Params, now.Params) {
		m.Review = append(m.Review, "it has no parameter "+p+" any more")
	}
	if gone := without(info.Aliases, now.Aliases); len(gone) > 0 {
		m.Review = append(m.Review, fmt.Sprintf("it does not claim %d patterns of devices any more: %s", len(gone), strings.Join(gone[:min(len(gone), named)], ", ")))
	}
	return nil
}

// without gives the words of a that are not in b.
func without(a, b []string) (out []string) {
	for _, w := range a {
		if !slices.Contains(b, w) {
			out = append(out, w)
		}
	}
	return out
}
