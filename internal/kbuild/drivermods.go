// SPDX-License-Identifier: Apache-2.0

package kbuild

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/lupatch/lupatch/internal/refuse"
)

// DriverModule is a module that a folder makes.
type DriverModule struct {
	// Name is how the kernel calls it.
	Name string
	// Sources are its C files, relative to the source's root.
	Sources []string

	file string // its file's name without ".ko"
}

// DriverModules lists what modules the folder dir of a source (of whatever version)
// makes with this kernel's configuration, without those of the folders in it.
// changed is as in Driver. Refusal: PatchScope for a folder that is not there or
// has no makefile.
func (t *Tree) DriverModules(ctx context.Context, root, dir string, changed map[string][]byte) ([]DriverModule, error) {
	to, tidy, err := t.layDriver(Driver{Root: root, Dir: dir, Changed: changed})
	if err != nil {
		return nil, err
	}
	defer tidy()
	mods, err := t.listModules(ctx, filepath.Join(to, dir))
	for i := range mods {
		for j, s := range mods[i].Sources {
			mods[i].Sources[j] = path.Join(dir, s)
		}
	}
	return mods, err
}

// askModules is what make is asked: each module with the objects it is made of.
const askModules = `include %[1]s/include/config/auto.conf
srctree := %[2]s
objtree := %[1]s
src := %[3]s
obj := %[3]s
include %[3]s/%[4]s
$(foreach m,$(filter %%.o,$(obj-m)),$(info lupatch $(m) $($(m:.o=-objs)) $($(m:.o=-y)) $($(m:.o=-m))))
.PHONY: lupatch-list
lupatch-list: ;
`

// listModules asks make what the folder, laid out by layDriver, makes.
func (t *Tree) listModules(ctx context.Context, dir string) ([]DriverModule, error) {
	ask, err := os.CreateTemp("", "lupatch-modules-*.mk")
	if err != nil {
		return nil, err
	}
	defer os.Remove(ask.Name())
	_, err = fmt.Fprintf(ask, askModules, t.Obj, t.KernelSrc, dir, originalMakefile)
	if cerr := ask.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, "make", "-rR", "--no-print-directory", "-f", ask.Name(), "ARCH=x86", "SRCARCH=x86", "lupatch-list")
	cmd.Dir, cmd.Env = t.Obj, cleanEnv()
	out, log, err := runMake(cmd)
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if err != nil {
		return nil, fmt.Errorf("asking which modules a folder makes: %w: %s", err, firstErrors(log, 3))
	}
	var mods []DriverModule
	for line := range strings.Lines(string(out)) {
		w := strings.Fields(line)
		if len(w) < 2 || w[0] != "lupatch" {
			continue
		}
		file := strings.TrimSuffix(w[1], ".o")
		if slices.ContainsFunc(mods, func(m DriverModule) bool { return m.file == file }) {
			continue // helpers are named by each driver that needs them
		}
		m := DriverModule{Name: moduleName(file), file: file}
		objs := w[2:]
		if len(objs) == 0 {
			objs = w[1:2]
		}
		for _, o := range objs {
			if c := strings.TrimSuffix(o, ".o") + ".c"; c != o+".c" {
				m.Sources = append(m.Sources, c)
			}
		}
		mods = append(mods, m)
	}
	return mods, nil
}

// Source gives the root of a version of the distribution's source, for the series
// ("6.1") of this tree's kernel, unpacked into the cache. It may be downloaded
// (130 MB). version is that of the package; empty means the newest that the
// archives carry. Refusal: SourceUnavailable.
func (t *Tree) Source(ctx context.Context, version string) (root, found string, err error) {
	ser := series.FindString(t.Release)
	if ser == "" {
		return "", "", refuse.New(refuse.SourceUnavailable, t.Release, "this is not a kernel release such as 6.1.0-47-amd64")
	}
	pkg := "linux-source-" + ser
	debs, err := t.debs()
	if err != nil {
		return "", "", err
	}
	if version == "" {
		vs, err := debs.Versions(ctx, pkg)
		if err != nil {
			return "", "", err
		}
		if len(vs) == 0 {
			return "", "", refuse.New(refuse.SourceUnavailable, pkg, "no such package is known to apt")
		}
		version = vs[0]
	}
	other := &Tree{opt: t.opt, cache: t.cache, Version: version,
		Src: filepath.Join(t.cache, "source", safe(pkg+"_"+version+"_"+cacheLayout))}
	if err := other.unpackSource(ctx, debs, pkg); err != nil {
		return "", "", fmt.Errorf("preparing source %s: %w", version, err)
	}
	return other.Src, version, nil
}

var makefileVersion = regexp.MustCompile(`(?m)^(VERSION|PATCHLEVEL|SUBLEVEL|EXTRAVERSION)[ \t]*=[ \t]*(\S*)`)

// SourceVersion reads the version of a kernel's source ("6.1.176") from its makefile;
// it need not be configured. Refusal: SourceUnavailable for any other folder.
func SourceVersion(root string) (string, error) {
	b, err := os.ReadFile(filepath.Join(root, "Makefile"))
	if err != nil || !isSourceTree(root) {
		return "", refuse.New(refuse.SourceUnavailable, root, "the folder is not that of a kernel's source")
	}
	part := map[string]string{}
	for _, m := range makefileVersion.FindAllSubmatch(b, -1) {
		if name := string(m[1]); part[name] == "" {
			part[name] = string(m[2])
		}
	}
	if part["VERSION"] == "" || part["PATCHLEVEL"] == "" {
		return "", refuse.New(refuse.SourceUnavailable, root, "its makefile does not say which version it is")
	}
	return part["VERSION"] + "." + part["PATCHLEVEL"] + "." + cmp.Or(part["SUBLEVEL"], "0") + part["EXTRAVERSION"], nil
}
