// SPDX-License-Identifier: Apache-2.0

package deb

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/lupatch/lupatch/internal/refuse"
)

// backportsAge is how old the index of the backports may get: a kernel that the
// archive has removed meanwhile is gone from its index within a day.
const backportsAge = 24 * time.Hour

// debianKeyring is where Debian installs the keys of its archives (package
// debian-archive-keyring).
const debianKeyring = "/usr/share/keyrings/debian-archive-keyring.gpg"

// archive is an index of packages and what apt has to be told to use it. The
// zero value is the host's own.
type archive struct{ options []string }

func (c *Cache) aptIn(ctx context.Context, a archive, dir, name string, args ...string) ([]byte, error) {
	return c.apt(ctx, dir, name, append(append([]string(nil), a.options...), args...)...)
}

// errNoBackports says that this host has no backports: it does not run a
// release of Debian, or has none of its archives.
var errNoBackports = errors.New("there are no backports for this host, which does not run a release of Debian")

// backports is the suite with later kernels for the release of Debian that this
// host runs, from the mirror that the host uses. Its index lies in the cache:
// apt's own configuration and state are not touched and no privilege is needed.
func (c *Cache) backports(ctx context.Context) (archive, error) {
	uri, suite, err := c.backportsOf(ctx)
	if err != nil {
		return archive{}, err
	}
	dir := filepath.Join(c.Root, "apt", suite)
	a := archive{options: []string{
		"-o", "Dir::Etc::sourcelist=" + filepath.Join(dir, "sources.list"), "-o", "Dir::Etc::sourceparts=/dev/null",
		"-o", "Dir::State::lists=" + filepath.Join(dir, "lists"), "-o", "Dir::Cache=" + filepath.Join(dir, "cache"),
		// Installed packages are none of the archive's.
		"-o", "Dir::State::status=" + filepath.Join(dir, "status"),
		"-o", "APT::Sandbox::User=root",
	}}
	return a, c.updateBackports(ctx, a, dir, uri, suite)
}

// backportsOf finds mirror and name of the suite.
func (c *Cache) backportsOf(ctx context.Context) (uri, suite string, err error) {
	release, err := os.ReadFile(filepath.Join(c.root(), "etc/os-release"))
	if err != nil {
		return "", "", errNoBackports
	}
	var id, codename string
	for line := range strings.Lines(string(release)) {
		k, v, _ := strings.Cut(strings.TrimSpace(line), "=")
		switch v = strings.Trim(v, `"`); k {
		case "ID":
			id = v
		case "VERSION_CODENAME":
			codename = v
		}
	}
	if id != "debian" || codename == "" {
		return "", "", errNoBackports
	}
	suite = codename + "-backports"
	out, err := c.apt(ctx, "/", "apt-get", "indextargets", "--format", "$(ORIGIN) $(COMPONENT) $(CODENAME) $(REPO_URI)", "Created-By: Packages")
	if err != nil {
		return "", "", fmt.Errorf("asking apt for its archives: %w", err)
	}
	for line := range strings.Lines(string(out)) {
		f := strings.Fields(line)
		if len(f) == 4 && f[0] == "Debian" && f[1] == "main" && f[2] == codename {
			return f[3], suite, nil
		}
	}
	return "", "", errNoBackports
}

// updateBackports fetches the index if there is none or it is old. An old one
// is better than none.
func (c *Cache) updateBackports(ctx context.Context, a archive, dir, uri, suite string) error {
	unlock, err := c.lock(ctx, "apt-"+suite)
	if err != nil {
		return err
	}
	defer unlock()
	source := "deb "
	if exists(debianKeyring) {
		source += "[signed-by=" + debianKeyring + "] "
	}
	source += uri + " " + suite + " main\n"
	stamp, list := filepath.Join(dir, "updated"), filepath.Join(dir, "sources.list")
	had, _ := os.ReadFile(list)
	info, err := os.Stat(stamp)
	known := err == nil && bytes.Equal(had, []byte(source))
	if known && time.Since(info.ModTime()) < backportsAge {
		return nil
	}
	for _, d := range []string{"lists/partial", "cache/archives/partial"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			return fmt.Errorf("making the index of %s: %w", suite, err)
		}
	}
	for name, text := range map[string]string{list: source, filepath.Join(dir, "status"): ""} {
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			return fmt.Errorf("making the index of %s: %w", suite, err)
		}
	}
	c.progress("fetching the index of "+suite, 0, 0)
	// Without this option apt-get ends well even if it could fetch nothing.
	if _, err := c.aptIn(ctx, a, "/", "apt-get", "-q", "-o", "APT::Update::Error-Mode=any", "update"); err != nil {
		if known && ctx.Err() == nil {
			logrus.Debugf("deb: keeping the old index of %s: %v", suite, err)
			return nil
		}
		os.Remove(stamp)
		return fmt.Errorf("fetching the index of %s: %w", suite, err)
	}
	return os.WriteFile(stamp, nil, 0o644)
}

// NewestBackport finds the newest kernel of a series ("6.12") that the
// backports carry now, and the version of its image package. A host without
// backports, or with no kernel of that series there, is a *refuse.Error with
// SourceUnavailable.
func (c *Cache) NewestBackport(ctx context.Context, series string) (release, version string, err error) {
	a, err := c.backports(ctx)
	if errors.Is(err, errNoBackports) {
		return "", "", refuse.New(refuse.SourceUnavailable, "linux "+series, "%v", err)
	}
	if err != nil {
		return "", "", err
	}
	return c.newestKernel(ctx, a, series)
}

// Backported finds the newest version of a package in the backports. A host
// without backports, or a package that is not there, is a *refuse.Error with
// SourceUnavailable.
func (c *Cache) Backported(ctx context.Context, pkg string) (version string, err error) {
	if err := checkName(pkg); err != nil {
		return "", err
	}
	a, err := c.backports(ctx)
	if errors.Is(err, errNoBackports) {
		return "", refuse.New(refuse.SourceUnavailable, pkg, "%v", err)
	}
	if err != nil {
		return "", err
	}
	versions, err := c.versionsIn(ctx, a, pkg)
	if err != nil {
		return "", err
	}
	if len(versions) == 0 {
		return "", refuse.New(refuse.SourceUnavailable, pkg, "no package of this name is in the backports")
	}
	return versions[0], nil
}

// anyArchive runs look on the host's own archives and, if it finds nothing
// there, on the backports. What keeps the backports from being asked is only
// worth a line in the log: most packages are not there.
func (c *Cache) anyArchive(ctx context.Context, look func(archive) (found bool, err error)) error {
	if found, err := look(archive{}); found || err != nil {
		return err
	}
	a, err := c.backports(ctx)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		logrus.Debugf("deb: backports: %v", err)
		return nil
	}
	_, err = look(a)
	return err
}
