// SPDX-License-Identifier: Apache-2.0

package kbuild

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/google/renameio/v2"
	"golang.org/x/sync/errgroup"

	"github.com/lupatch/lupatch/internal/deb"
	"github.com/lupatch/lupatch/internal/refuse"
)

// series is the part of a release that names the source package.
var (
	series       = regexp.MustCompile(`^[0-9]+\.[0-9]+`)
	kbuildPkg    = regexp.MustCompile(`\blinux-kbuild-[a-z0-9.+-]+`)
	procVersion  = regexp.MustCompile(`\bDebian (\S+)`)
	versionLabel = regexp.MustCompile(`[^A-Za-z0-9.+~_-]`)
)

// cacheLayout changes when what is laid out in the cache does, so that a newer
// lupatch does not take an older one's for whole.
const cacheLayout = "l2"

// openPackages prepares a distribution's source: linux-source, linux-headers and
// linux-kbuild of the version that the release's kernel has.
func (t *Tree) openPackages(ctx context.Context) error {
	t.Kind, t.Release = KindPackages, t.opt.Release
	ser := series.FindString(t.Release)
	if ser == "" {
		return refuse.New(refuse.SourceUnavailable, t.Release, "this is not a kernel release such as 6.1.0-47-amd64")
	}
	if r, ok := t.readRecord(); ok {
		t.Version, t.Src, t.Obj, t.Notes = r.Version, r.Src, r.Obj, r.Notes
	} else if err := t.preparePackages(ctx, ser); err != nil {
		return err
	}
	t.KernelSrc, t.key = t.Src, filepath.Base(t.Obj)
	var err error
	t.Config, err = ReadConfig(filepath.Join(t.Obj, ".config"))
	return err
}

func (t *Tree) preparePackages(ctx context.Context, ser string) error {
	debs, err := t.debs()
	if err != nil {
		return err
	}
	headers := "linux-headers-" + t.Release
	if t.Version, err = t.packageVersion(ctx, debs, headers); err != nil {
		return err
	}
	t.Src = filepath.Join(t.cache, "source", safe("linux-source-"+ser+"_"+t.Version+"_"+cacheLayout))
	// The source takes longest; headers and tools come meanwhile.
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error { return t.unpackSource(gctx, debs, "linux-source-"+ser) })
	g.Go(func() error { return t.makeObjtree(gctx, debs, headers) })
	if err := g.Wait(); err != nil {
		return err
	}
	t.writeRecord()
	return nil
}

// record says what a release was prepared from, so that a prepared release needs
// neither apt (which takes a second) nor a network.
type record struct {
	Version, Src, Obj string
	Notes             []string
}

func (t *Tree) recordFile() string {
	return filepath.Join(t.cache, "prepared", safe(t.Release+"_"+cacheLayout)+".json")
}

func (t *Tree) readRecord() (r record, ok bool) {
	b, err := os.ReadFile(t.recordFile())
	if err != nil || json.Unmarshal(b, &r) != nil || !isDir(r.Src) || !isDir(r.Obj) {
		return r, false
	}
	for _, want := range []string{t.opt.SourceVersion, runningVersion(t.Release)} {
		if want != "" {
			return r, want == r.Version
		}
	}
	return r, true
}

// writeRecord only saves time later: a failure is not worth an error.
func (t *Tree) writeRecord() {
	b, err := json.Marshal(record{Version: t.Version, Src: t.Src, Obj: t.Obj, Notes: t.Notes})
	if err == nil && os.MkdirAll(filepath.Dir(t.recordFile()), 0o755) == nil {
		_ = renameio.WriteFile(t.recordFile(), b, 0o644)
	}
}

func (t *Tree) debs() (*deb.Cache, error) {
	if t.opt.Debs != nil {
		return t.opt.Debs, nil
	}
	c, err := deb.New("")
	if err != nil {
		return nil, err
	}
	c.Progress = deb.Progress(t.opt.Progress)
	t.opt.Debs = c
	return c, nil
}

// packageVersion finds the version of the release's packages: the one asked
// for, the one that runs if it is that release, else the newest.
func (t *Tree) packageVersion(ctx context.Context, debs *deb.Cache, pkg string) (string, error) {
	if t.opt.SourceVersion != "" {
		return t.opt.SourceVersion, nil
	}
	if v := runningVersion(t.Release); v != "" {
		return v, nil
	}
	vs, err := debs.Versions(ctx, pkg)
	if err != nil {
		return "", err
	}
	if len(vs) == 0 {
		return "", refuse.New(refuse.SourceUnavailable, t.Release, "no package %s is known to apt", pkg)
	}
	return vs[0], nil
}

func runningVersion(release string) string {
	rel, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil || strings.TrimSpace(string(rel)) != release {
		return ""
	}
	b, err := os.ReadFile("/proc/version")
	if err != nil {
		return ""
	}
	if m := procVersion.FindStringSubmatch(string(b)); m != nil {
		return m[1]
	}
	return ""
}

// makeObjtree makes the build folder from the headers package and the tools of
// linux-kbuild.
func (t *Tree) makeObjtree(ctx context.Context, debs *deb.Cache, headers string) error {
	hdeb, err := debs.Fetch(ctx, headers, t.Version)
	if err != nil {
		return err
	}
	out, err := exec.CommandContext(ctx, "dpkg-deb", "-f", hdeb, "Depends").Output()
	if err != nil {
		return fmt.Errorf("reading the dependencies of %s: %w", headers, err)
	}
	tools := kbuildPkg.FindString(string(out))
	if tools == "" {
		return refuse.New(refuse.SourceUnavailable, headers, "the package names no linux-kbuild package")
	}
	toolsVersion, err := t.toolsVersion(ctx, debs, tools)
	if err != nil {
		return err
	}
	t.Obj = filepath.Join(t.cache, "obj", safe(t.Release+"_"+t.Version+"_"+toolsVersion+"_"+cacheLayout))
	return once(ctx, t.Obj, func(tmp string) error {
		h, err := debs.Unpack(ctx, headers, t.Version)
		if err != nil {
			return err
		}
		k, err := debs.Unpack(ctx, tools, toolsVersion)
		if err != nil {
			return err
		}
		return assemble(filepath.Join(h, "usr/src", headers), filepath.Join(k, "usr/lib", tools), tmp)
	})
}

// toolsVersion picks the version of linux-kbuild. Archives keep fewer of it
// than of the kernel; its scripts and objtool hardly change within a series,
// and where they do, run-pre verification shows it.
func (t *Tree) toolsVersion(ctx context.Context, debs *deb.Cache, pkg string) (string, error) {
	vs, err := debs.Versions(ctx, pkg)
	if err != nil {
		return "", err
	}
	if len(vs) == 0 {
		return "", refuse.New(refuse.SourceUnavailable, t.Release, "no package %s is known to apt", pkg)
	}
	best := ""
	for _, v := range vs { // newest first
		switch c := deb.CompareVersions(v, t.Version); {
		case c == 0:
			return v, nil
		case c > 0:
			best = v
		case best == "":
			best = v
		}
	}
	t.note("%s %s is not in the archives any more; its version %s is used", pkg, t.Version, best)
	return best, nil
}

// assemble lays a build folder out of the contents of a headers package and of
// linux-kbuild.
func assemble(headers, tools, obj string) error {
	for _, name := range []string{".config", "include", "arch", "Module.symvers"} {
		if err := copyTree(filepath.Join(headers, name), filepath.Join(obj, name), nil); err != nil {
			return fmt.Errorf("laying out the build folder: %w", err)
		}
	}
	for _, name := range []string{"scripts/basic", "scripts/mod", "scripts/genksyms", "scripts/kconfig", "scripts/module.lds", "tools"} {
		from := filepath.Join(tools, name)
		if !exists(from) {
			continue
		}
		if err := copyTree(from, filepath.Join(obj, name), nil); err != nil {
			return fmt.Errorf("laying out the build folder: %w", err)
		}
	}
	return settle(obj)
}

// settle makes the results of the configuration newer than the configuration:
// otherwise make would configure anew. For the same reason auto.conf.cmd, which
// lists all Kconfig files with the paths they once had, is emptied.
func settle(obj string) error {
	now := time.Now()
	if err := os.Chtimes(filepath.Join(obj, ".config"), now, now.Add(-time.Minute)); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(obj, "include/config/auto.conf.cmd"), nil, 0o644); err != nil {
		return err
	}
	for _, name := range []string{"include/config/auto.conf", "include/config/auto.conf.cmd", "include/generated/autoconf.h", "include/generated/rustc_cfg"} {
		if err := os.Chtimes(filepath.Join(obj, name), now, now); err != nil && !os.IsNotExist(err) {
			return err
		}
	}
	return nil
}

func safe(s string) string { return versionLabel.ReplaceAllString(s, "_") }
