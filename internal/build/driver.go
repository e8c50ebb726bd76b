// SPDX-License-Identifier: Apache-2.0

package build

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/google/renameio/v2"

	"github.com/lupatch/lupatch/internal/kbuild"
	"github.com/lupatch/lupatch/internal/manifest"
	"github.com/lupatch/lupatch/internal/refuse"
	"github.com/lupatch/lupatch/internal/sign"
)

// DriverOptions say which driver to build.
type DriverOptions struct {
	// Path is the driver's folder in the source, one of its C files, or the module's
	// name.
	Path string
	// Source is the version to take: a folder with a kernel's source, the version of
	// the distribution's source package ("6.1.176-1"), or that with the package's name
	// ("linux-source-6.1=6.1.176-1"). Empty means the newest that the archives carry.
	Source string
	// Patch is the path of a unified diff laid over it; may be empty.
	Patch string
	// Dir is a built kernel tree of the kernel to build for; empty for the
	// distribution's packages of Release.
	Dir string
	// Release is the kernel to build for (uname -r).
	Release string
	// SourceVersion overrides the version of the packages of that kernel.
	SourceVersion string
	// Output is the file to write; empty means MODULE.ko in the current folder.
	Output string
	// Name of the update; empty means one made of module and version.
	Name string
	// AnyCompiler, Fuzz, Jobs, Version, Keys and Progress are as in Options.
	AnyCompiler bool
	Fuzz        int
	Jobs        int
	Version     string
	Keys        sign.Keys
	Progress    kbuild.Progress
}

// driverJob is one build of a driver under way.
type driverJob struct {
	opt  DriverOptions
	tree *kbuild.Tree
	// root and version are of the source that the driver comes from.
	root, version string
	change        *change // nil without a patch
	dir           string
	module        kbuild.DriverModule
	helpers       []kbuild.DriverModule // the folder's other modules
	files         map[string][]byte
	notes         []string
}

// Driver builds the whole driver of some version of the source for a kernel, so that
// it loads there in the place of the one that it ships. It needs no privilege and
// writes nothing but the module, its manifest beside it (manifest.DriverSuffix), a
// signature and the cache. What cannot be done is a *refuse.Error: those of
// kbuild.BuildDriver, and DriverSet.
func Driver(ctx context.Context, opt DriverOptions) (*Result, error) {
	c := &clock{progress: opt.Progress}
	c.start("source")
	j := &driverJob{opt: opt}
	var err error
	j.tree, err = kbuild.Open(ctx, kbuild.Options{
		Dir: opt.Dir, Release: opt.Release, SourceVersion: opt.SourceVersion,
		AnyCompiler: opt.AnyCompiler, Jobs: opt.Jobs, Progress: opt.Progress,
	})
	if err != nil {
		return nil, err
	}
	if err := j.findSource(ctx); err != nil {
		return nil, err
	}
	if err := j.find(ctx); err != nil {
		return nil, err
	}
	c.start("compile")
	ko, err := j.tree.BuildDriver(ctx, kbuild.Driver{Root: j.root, Dir: j.dir, Module: j.module.Name, Changed: j.changed()})
	if err != nil {
		return nil, err
	}
	if err := j.checkHelpers(ctx, ko); err != nil {
		return nil, err
	}
	c.start("describe")
	man, err := j.describe(ctx, ko)
	if err != nil {
		return nil, err
	}
	ko, minisig, err := signWith(opt.Keys, ko, man, func(name string) string { return j.tree.Config[name] })
	if err != nil {
		return nil, err
	}
	out, err := filepath.Abs(cmp.Or(opt.Output, j.module.Name+".ko"))
	if err != nil {
		return nil, err
	}
	if err := writeDriver(out, ko, minisig, man); err != nil {
		return nil, err
	}
	c.start("")
	return &Result{Path: out, Manifest: man, Stages: c.stages, Notes: append(slices.Clone(j.tree.Notes), j.notes...)}, nil
}

func (j *driverJob) changed() map[string][]byte {
	if j.change == nil {
		return nil
	}
	return j.change.files
}

// findSource finds the source that the driver comes from, and lays the patch over it.
func (j *driverJob) findSource(ctx context.Context) (err error) {
	s := j.opt.Source
	st, serr := os.Stat(s)
	switch {
	case serr == nil && st.IsDir():
		if j.root, err = filepath.EvalSymlinks(s); err == nil {
			j.root, err = filepath.Abs(j.root)
		}
		if err != nil {
			return fmt.Errorf("finding the driver's source: %w", err)
		}
		if j.version, err = kbuild.SourceVersion(j.root); err != nil {
			return err
		}
	case strings.Contains(s, "/"):
		return refuse.New(refuse.SourceUnavailable, s, "there is no such folder")
	default:
		pkg, version, named := strings.Cut(s, "=")
		if !named {
			pkg, version = "", s
		}
		if pkg != "" && !strings.HasPrefix(pkg, "linux-source-") {
			return refuse.New(refuse.SourceUnavailable, s, "the package is not one with the kernel's source (linux-source-6.1)")
		}
		if j.root, j.version, err = j.tree.Source(ctx, version); err != nil {
			return err
		}
	}
	if j.opt.Patch == "" {
		return nil
	}
	text, err := os.ReadFile(j.opt.Patch)
	if err != nil {
		return err
	}
	j.change, err = readPatch(j.opt.Patch, text, j.root, j.opt.Fuzz)
	return err
}

// describe makes the manifest of the finished module.
func (j *driverJob) describe(ctx context.Context, ko []byte) (*manifest.Manifest, error) {
	m, err := manifest.ForDriver(ko, time.Now())
	if err != nil {
		return nil, fmt.Errorf("describing the driver: %w", err)
	}
	version := j.version
	if j.change != nil {
		version += " " + nameOf(j.opt.Patch)
		m.Source.Subject, m.Source.CVE = j.change.subject, j.change.cves
	}
	m.Name = cmp.Or(j.opt.Name, manifest.DriverName(j.module.Name, version))
	m.Tools = manifest.Tools{Lupatch: cmp.Or(j.opt.Version, "devel"), Compiler: j.tree.Config["CONFIG_CC_VERSION_TEXT"]}
	m.Source.Version, m.Source.Files = j.version, slices.Sorted(maps.Keys(j.files))
	m.Source.SHA256 = digestOf(j.files)
	if err := j.compareShipped(ctx, m, ko); err != nil {
		return nil, err
	}
	return m, m.Validate()
}

// digestOf is the SHA-256 of files with their names.
func digestOf(files map[string][]byte) string {
	h := sha256.New()
	for _, p := range slices.Sorted(maps.Keys(files)) {
		fmt.Fprintf(h, "%s\x00%d\x00", p, len(files[p]))
		h.Write(files[p])
	}
	return hex.EncodeToString(h.Sum(nil))
}

// writeDriver puts the module and what belongs to it in place. The manifest comes
// last: without one that fits, an older one beside it would refuse the module.
func writeDriver(path string, ko, minisig []byte, m *manifest.Manifest) error {
	text, err := manifest.Encode(m)
	if err != nil {
		return fmt.Errorf("describing the driver: %w", err)
	}
	side := path + manifest.DriverSuffix
	if old, err := os.ReadFile(side); err == nil && !bytes.Equal(old, text) {
		if err := os.Remove(side); err != nil {
			return fmt.Errorf("removing an old manifest: %w", err)
		}
	}
	if err := write(path, ko, minisig); err != nil {
		return err
	}
	if err := renameio.WriteFile(side, text, fs.FileMode(0o644)); err != nil {
		return fmt.Errorf("writing the driver's manifest: %w", err)
	}
	return nil
}
