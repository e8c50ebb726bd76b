// SPDX-License-Identifier: Apache-2.0

package deb

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
)

// Prefetch downloads the newest version of those packages of which the cache has
// none, in one run of apt, which takes a second for each when they are fetched
// one by one. Packages that the archives lack are left out: Fetch says so.
func (c *Cache) Prefetch(ctx context.Context, pkgs ...string) error {
	var missing []string
	for _, pkg := range pkgs {
		if err := checkName(pkg); err != nil {
			return err
		}
		if c.AnyVersion(pkg) == "" {
			missing = append(missing, pkg)
		}
	}
	if len(missing) < 2 {
		return nil
	}
	if err := c.ensureIndex(ctx); err != nil {
		return err
	}
	if err := os.MkdirAll(c.archives(), 0o755); err != nil {
		return fmt.Errorf("making the package cache: %w", err)
	}
	tmp, err := os.MkdirTemp(c.archives(), ".fetch-")
	if err != nil {
		return fmt.Errorf("making the package cache: %w", err)
	}
	defer os.RemoveAll(tmp)
	c.progress(fmt.Sprintf("downloading %d packages", len(missing)), 0, 0)
	// A name that apt does not know fails the whole run before anything comes;
	// the packages are then fetched one by one.
	if _, err := c.apt(ctx, tmp, "apt-get", append([]string{"-q", "-o", "APT::Sandbox::User=root", "download"}, missing...)...); err != nil {
		return ctx.Err()
	}
	found, err := filepath.Glob(filepath.Join(tmp, "*.deb"))
	if err != nil {
		return err
	}
	for _, file := range found {
		if err := os.Rename(file, filepath.Join(c.archives(), filepath.Base(file))); err != nil {
			return fmt.Errorf("keeping %s: %w", filepath.Base(file), err)
		}
	}
	return nil
}
