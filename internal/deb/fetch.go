// SPDX-License-Identifier: Apache-2.0

package deb

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/lupatch/lupatch/internal/refuse"
)

// progressInterval is how often the size of a download is looked at.
const progressInterval = 250 * time.Millisecond

// Fetch gives the path of PKG_VERSION_ARCH.deb in the cache, downloading it
// first if it is not there. An empty version means the newest one. The package
// is checked by apt against the signed index. A *refuse.Error with
// SourceUnavailable says that the archives do not carry it.
func (c *Cache) Fetch(ctx context.Context, pkg, version string) (string, error) {
	version, err := c.resolve(ctx, pkg, version)
	if err != nil {
		return "", err
	}
	if path := c.cached(pkg, version); path != "" {
		return path, nil
	}
	unlock, err := c.lock(ctx, "fetch-"+pkg+"_"+fileVersion(version))
	if err != nil {
		return "", err
	}
	defer unlock()
	if path := c.cached(pkg, version); path != "" {
		return path, nil
	}
	return c.download(ctx, pkg, version)
}

// resolve turns an empty version into the newest one. Without an index the
// newest version of the cache has to do, so that a machine that has been cut
// off keeps working.
func (c *Cache) resolve(ctx context.Context, pkg, version string) (string, error) {
	if err := checkName(pkg); err != nil {
		return "", err
	}
	if version != "" {
		return version, checkVersion(version)
	}
	versions, err := c.Versions(ctx, pkg)
	if err == nil && len(versions) > 0 {
		return versions[0], nil
	}
	if cached := c.cachedVersions(pkg); len(cached) > 0 {
		return cached[0], nil
	}
	if err != nil {
		return "", err
	}
	return "", unavailable(pkg, "", nil)
}

// unavailable names the package and what there is instead.
func unavailable(pkg, version string, have []string) error {
	switch {
	case len(have) == 0:
		return refuse.New(refuse.SourceUnavailable, pkg, "no package of this name is in the configured Debian archives")
	default:
		return refuse.New(refuse.SourceUnavailable, pkg, "version %s is not in the configured Debian archives, which carry %s",
			version, strings.Join(have, ", "))
	}
}

func (c *Cache) archives() string { return filepath.Join(c.Root, "archives") }

func (c *Cache) cached(pkg, version string) string {
	found, _ := filepath.Glob(filepath.Join(c.archives(), pkg+"_"+fileVersion(version)+"_*.deb"))
	if len(found) == 0 {
		return ""
	}
	return found[0]
}

func (c *Cache) cachedVersions(pkg string) []string {
	found, _ := filepath.Glob(filepath.Join(c.archives(), pkg+"_*_*.deb"))
	var versions []string
	for _, f := range found {
		parts := strings.Split(filepath.Base(f), "_")
		if len(parts) == 3 {
			versions = append(versions, strings.ReplaceAll(parts[1], "%3a", ":"))
		}
	}
	sortNewestFirst(versions)
	return versions
}

// AnyVersion is the newest version of a package in the cache, else what an empty
// version means: for packages of which any one will do, without asking apt.
func (c *Cache) AnyVersion(pkg string) string {
	if cached := c.cachedVersions(pkg); checkName(pkg) == nil && len(cached) > 0 {
		return cached[0]
	}
	return ""
}

// backportMark is in the versions of packages made for the backports
// (backports.debian.org/Contribute, "Versioning"); that of kernels is another's.
const backportMark = "~bpo"

// archiveOf finds who carries a version: that may be the backports though the
// configured archives have others.
func (c *Cache) archiveOf(ctx context.Context, pkg, version string) (from archive, err error) {
	if err := c.ensureIndex(ctx); err != nil {
		return from, err
	}
	var all []string
	found := false
	look := func(a archive) (bool, error) {
		versions, err := c.versionsIn(ctx, a, pkg)
		if all = append(all, versions...); contains(versions, version) {
			from, found = a, true
		}
		return found, err
	}
	if fromKernel(pkg) || strings.Contains(version, backportMark) {
		err = c.anyArchive(ctx, look)
	} else {
		_, err = look(archive{})
	}
	if err == nil && !found {
		err = unavailable(pkg, version, all)
	}
	return from, err
}

func (c *Cache) download(ctx context.Context, pkg, version string) (string, error) {
	from, err := c.archiveOf(ctx, pkg, version)
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(c.archives(), 0o755); err != nil {
		return "", fmt.Errorf("making the package cache: %w", err)
	}
	tmp, err := os.MkdirTemp(c.archives(), ".fetch-")
	if err != nil {
		return "", fmt.Errorf("making the package cache: %w", err)
	}
	defer os.RemoveAll(tmp)

	spec := pkg + "=" + version
	stop := c.watchSize(ctx, from, tmp, spec)
	// Root's apt would drop to the user _apt, which cannot write into a cache
	// in root's home, and warn about it.
	_, err = c.aptIn(ctx, from, tmp, "apt-get", "-q", "-o", "APT::Sandbox::User=root", "download", spec)
	stop()
	if err != nil {
		return "", fmt.Errorf("downloading %s (if the index is old, run `apt-get update`): %w", spec, err)
	}
	found, err := filepath.Glob(filepath.Join(tmp, "*.deb"))
	if err != nil || len(found) != 1 {
		return "", fmt.Errorf("downloading %s: apt-get left %d packages instead of one", spec, len(found))
	}
	path := filepath.Join(c.archives(), filepath.Base(found[0]))
	if err := os.Rename(found[0], path); err != nil {
		return "", fmt.Errorf("keeping %s: %w", spec, err)
	}
	if c.cached(pkg, version) == "" {
		return "", fmt.Errorf("keeping %s: apt-get named it %s", spec, filepath.Base(path))
	}
	return path, nil
}

// watchSize reports the growth of the file that apt-get writes into dir.
func (c *Cache) watchSize(ctx context.Context, from archive, dir, spec string) (stop func()) {
	if c.Progress == nil {
		return func() {}
	}
	stage := "downloading " + spec
	total := c.sizeOf(ctx, from, dir, spec)
	c.progress(stage, 0, total)
	done, gone := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(gone)
		tick := time.NewTicker(progressInterval)
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case <-tick.C:
				c.progress(stage, sizeBelow(dir), total)
			}
		}
	}()
	return func() {
		close(done)
		<-gone
		c.progress(stage, sizeBelow(dir), total)
	}
}

// sizeOf asks for `'URI' NAME SIZE HASH`; 0 if that cannot be told.
func (c *Cache) sizeOf(ctx context.Context, from archive, dir, spec string) int64 {
	out, err := c.aptIn(ctx, from, dir, "apt-get", "-q", "--print-uris", "download", spec)
	if err != nil {
		return 0
	}
	for _, line := range strings.Split(string(out), "\n") {
		if f := strings.Fields(line); len(f) >= 3 && strings.HasPrefix(f[0], "'") {
			n, _ := strconv.ParseInt(f[2], 10, 64)
			return n
		}
	}
	return 0
}

func sizeBelow(dir string) (n int64) {
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		if info, err := e.Info(); err == nil && info.Mode().IsRegular() {
			n += info.Size()
		}
	}
	return n
}

func contains(list []string, s string) bool {
	for _, l := range list {
		if l == s {
			return true
		}
	}
	return false
}

// IsUnavailable says whether an error means that the archives lack a package,
// as opposed to a failed look-up or download.
func IsUnavailable(err error) bool {
	var e *refuse.Error
	return errors.As(err, &e) && e.ID == refuse.SourceUnavailable
}
