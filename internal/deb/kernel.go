// SPDX-License-Identifier: Apache-2.0

package deb

import (
	"context"
	"fmt"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"

	"github.com/lupatch/lupatch/internal/refuse"
)

// Kernel is an unpacked kernel image package, or the host's own kernel.
type Kernel struct {
	// Release is what `uname -r` says, for example 6.1.0-47-amd64.
	Release string
	// Package and Version name the Debian package; both are empty for a kernel
	// that is installed on the host.
	Package, Version string
	// Dir is the folder that holds boot/ and lib/modules/.
	Dir string
}

// Vmlinuz is the path of the compressed kernel image.
func (k *Kernel) Vmlinuz() string { return filepath.Join(k.Dir, "boot", "vmlinuz-"+k.Release) }

// Config is the path of the kernel's configuration.
func (k *Kernel) Config() string { return filepath.Join(k.Dir, "boot", "config-"+k.Release) }

// Modules is the path of the folder that holds kernel/. Debian 13 packages
// moved it below usr/.
func (k *Kernel) Modules() string {
	dir := filepath.Join(k.Dir, "lib", "modules", k.Release)
	if usr := filepath.Join(k.Dir, "usr", "lib", "modules", k.Release); !exists(dir) && exists(usr) {
		return usr
	}
	return dir
}

var releaseRE = regexp.MustCompile(`^[0-9]+\.[0-9]+[0-9A-Za-z.+~_-]*$`)

// KernelImage gives the kernel of a release: the host's own if its image and
// modules are installed, else its image package, signed or unsigned, fetched
// and unpacked (some 400 MB). An unknown release is a *refuse.Error with
// SourceUnavailable that names the releases there are.
func (c *Cache) KernelImage(ctx context.Context, release string) (*Kernel, error) {
	if !releaseRE.MatchString(release) {
		return nil, refuse.New(refuse.SourceUnavailable, release, "this is not a kernel release such as 6.1.0-47-amd64")
	}
	if k := c.hostKernel(release); k != nil {
		return k, nil
	}
	var first error
	for _, pkg := range []string{"linux-image-" + release, "linux-image-" + release + "-unsigned"} {
		version, err := c.resolve(ctx, pkg, "")
		if err == nil {
			return c.kernelFrom(ctx, release, pkg, version)
		}
		if !IsUnavailable(err) {
			return nil, err
		}
		if first == nil {
			first = err
		}
	}
	if have := c.releasesLike(ctx, release); len(have) > 0 {
		return nil, refuse.New(refuse.SourceUnavailable, release, "no image package of this release is in the configured Debian archives, which carry %s",
			strings.Join(have, ", "))
	}
	return nil, first
}

// KernelImageVersion is KernelImage for one version of the package: a release
// may have been built more than once. The host's kernel is not considered.
func (c *Cache) KernelImageVersion(ctx context.Context, release, version string) (*Kernel, error) {
	return c.kernelFrom(ctx, release, "linux-image-"+release, version)
}

func (c *Cache) kernelFrom(ctx context.Context, release, pkg, version string) (*Kernel, error) {
	dir, err := c.Unpack(ctx, pkg, version)
	if err != nil {
		return nil, err
	}
	k := &Kernel{Release: release, Package: pkg, Version: version, Dir: dir}
	for _, p := range []string{k.Vmlinuz(), k.Config(), k.Modules()} {
		if !exists(p) {
			return nil, fmt.Errorf("looking into %s %s: it has no %s", pkg, version, strings.TrimPrefix(p, dir+"/"))
		}
	}
	return k, nil
}

func (c *Cache) hostKernel(release string) *Kernel {
	k := &Kernel{Release: release, Dir: c.root()}
	// A removed kernel leaves an empty modules folder behind, hence kernel/.
	if exists(k.Vmlinuz()) && exists(filepath.Join(k.Modules(), "kernel")) {
		return k
	}
	return nil
}

// seriesRE matches the main flavour's images of a series such as "6.1" (cloud,
// rt, dbg and unsigned ones are left out), in the naming of Debian 12
// (6.1.0-47-amd64) and 13 (6.12.48+deb13-amd64).
func seriesRE(series string) *regexp.Regexp {
	return regexp.MustCompile(`^linux-image-(` + regexp.QuoteMeta(series) + `\.[0-9]+([-+~.][0-9a-z.+~]+)*-` + regexp.QuoteMeta(debArch()) + `)$`)
}

// debArch is Debian's name of the architecture this program runs on.
func debArch() string {
	if arch, ok := map[string]string{"386": "i386", "arm": "armhf", "ppc64le": "ppc64el"}[runtime.GOARCH]; ok {
		return arch
	}
	return runtime.GOARCH
}

var flavourRE = regexp.MustCompile(`-(cloud|rt)-`)

// Releases lists the kernel releases of a series ("6.1") whose image packages
// are known to apt, newest first.
func (c *Cache) Releases(ctx context.Context, series string) (releases []string, err error) {
	if err := c.ensureIndex(ctx); err != nil {
		return nil, err
	}
	err = c.anyArchive(ctx, func(a archive) (bool, error) {
		releases, err = c.releasesIn(ctx, a, series)
		return len(releases) > 0, err
	})
	return releases, err
}

func (c *Cache) releasesIn(ctx context.Context, a archive, series string) ([]string, error) {
	out, err := c.aptIn(ctx, a, "/", "apt-cache", "pkgnames", "linux-image-"+series+".")
	if err != nil {
		return nil, fmt.Errorf("listing the kernels of %s: %w", series, err)
	}
	return pickReleases(string(out), series), nil
}

func pickReleases(names, series string) []string {
	re := seriesRE(series)
	var releases []string
	for _, name := range strings.Fields(names) {
		if m := re.FindStringSubmatch(name); m != nil && !flavourRE.MatchString(name) {
			releases = append(releases, m[1])
		}
	}
	sortNewestFirst(releases)
	return releases
}

// NewestKernel finds the newest kernel of a series ("6.1") that the archives
// carry now, and the newest version of its image package. The backports are
// asked only if the configured archives have none; see NewestBackport.
func (c *Cache) NewestKernel(ctx context.Context, series string) (release, version string, err error) {
	if err := c.ensureIndex(ctx); err != nil {
		return "", "", err
	}
	var missing error
	err = c.anyArchive(ctx, func(a archive) (bool, error) {
		release, version, err = c.newestKernel(ctx, a, series)
		if IsUnavailable(err) {
			missing, err = err, nil
		}
		return release != "", err
	})
	if err == nil && release == "" {
		err = missing
	}
	return release, version, err
}

func (c *Cache) newestKernel(ctx context.Context, a archive, series string) (release, version string, err error) {
	releases, err := c.releasesIn(ctx, a, series)
	if err != nil {
		return "", "", err
	}
	// apt knows names that only occur in dependencies; those have no version.
	for _, r := range releases {
		versions, err := c.versionsIn(ctx, a, "linux-image-"+r)
		if err != nil {
			return "", "", err
		}
		if len(versions) > 0 {
			return r, versions[0], nil
		}
	}
	return "", "", refuse.New(refuse.SourceUnavailable, "linux "+series, "no kernel image of this series is in the Debian archives")
}

func (c *Cache) releasesLike(ctx context.Context, release string) []string {
	parts := strings.SplitN(release, ".", 3)
	if len(parts) < 3 {
		return nil
	}
	releases, err := c.Releases(ctx, parts[0]+"."+parts[1])
	if err != nil {
		return nil
	}
	return releases
}

// Installed says whether image and modules of a release are on this host.
func (c *Cache) Installed(release string) bool {
	return releaseRE.MatchString(release) && c.hostKernel(release) != nil
}

// metaDependsRE finds what the meta package linux-image-ARCH stands for.
var metaDependsRE = regexp.MustCompile(`(?m)^Depends:.*\blinux-image-([0-9]\S*)`)

// CurrentKernel is the newest release of the series that this host's
// distribution uses, as its meta package (linux-image-amd64) says.
func (c *Cache) CurrentKernel(ctx context.Context) (release string, err error) {
	meta := "linux-image-" + debArch()
	versions, err := c.Versions(ctx, meta)
	if err != nil {
		return "", err
	}
	if len(versions) == 0 {
		return "", unavailable(meta, "", nil)
	}
	out, err := c.apt(ctx, "/", "apt-cache", "show", meta+"="+versions[0])
	if err != nil {
		return "", fmt.Errorf("asking what %s stands for: %w", meta, err)
	}
	m := metaDependsRE.FindSubmatch(out)
	if m == nil {
		return "", refuse.New(refuse.SourceUnavailable, meta, "the package does not name a kernel image")
	}
	return strings.TrimSuffix(string(m[1]), ","), nil
}
