// SPDX-License-Identifier: Apache-2.0

package kbuild

import (
	"context"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/lupatch/lupatch/internal/refuse"
)

// openModule opens the folder of an out-of-tree module. Its kernel's headers are
// those installed for the release, else the distribution's packages.
func (t *Tree) openModule(ctx context.Context, dir string) error {
	if t.opt.Release == "" {
		return refuse.New(refuse.SourceUnavailable, dir, "a module needs a kernel release to be built for")
	}
	build, err := filepath.EvalSymlinks(filepath.Join("/lib/modules", t.opt.Release, "build"))
	if err == nil && exists(filepath.Join(build, ".config")) && exists(filepath.Join(build, "include/generated/autoconf.h")) {
		t.Release, t.Obj = t.opt.Release, build
		t.KernelSrc = headersSource(build)
		t.Config, err = ReadConfig(filepath.Join(build, ".config"))
	} else {
		err = t.openPackages(ctx)
	}
	if err != nil {
		return err
	}
	if t.KernelSrc == "" {
		t.KernelSrc = t.Src
	}
	t.Kind, t.Src, t.UserObj = KindModule, dir, dir
	t.key = "module"
	return nil
}

var includesMakefile = regexp.MustCompile(`(?m)^include (/\S+)/Makefile$`)

// headersSource finds the source part of installed headers: distributions that
// share it among flavors say where it is in the makefile.
func headersSource(build string) string {
	b, err := os.ReadFile(filepath.Join(build, "Makefile"))
	if err == nil && len(b) < 1024 {
		if m := includesMakefile.FindSubmatch(b); m != nil {
			return strings.TrimSpace(string(m[1]))
		}
	}
	if src, err := filepath.EvalSymlinks(filepath.Join(build, "source")); err == nil {
		return src
	}
	return build
}
