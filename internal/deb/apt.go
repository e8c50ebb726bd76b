// SPDX-License-Identifier: Apache-2.0

package deb

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"

	"github.com/sirupsen/logrus"
)

// ErrNoIndex says that apt knows no package at all because its index has never
// been fetched on this machine.
var ErrNoIndex = errors.New("apt has no package index on this machine; run `apt-get update` as root first")

// aptRunner runs one apt command in dir and gives its standard output.
type aptRunner func(ctx context.Context, dir, name string, args ...string) ([]byte, error)

// aptError is a failed apt command. Error is its messages, shortened; Log is all.
type aptError struct {
	Command string
	Log     string
	Err     error
}

func (e *aptError) Unwrap() error { return e.Err }

func (e *aptError) Error() string {
	var said []string
	for _, l := range strings.Split(e.Log, "\n") {
		if strings.HasPrefix(l, "E: ") || strings.HasPrefix(l, "Err:") {
			said = append(said, strings.TrimPrefix(l, "E: "))
		}
	}
	if len(said) == 0 {
		return fmt.Sprintf("%s: %v", e.Command, e.Err)
	}
	return fmt.Sprintf("%s: %v: %s", e.Command, e.Err, strings.Join(said, "; "))
}

func runApt(ctx context.Context, dir, name string, args ...string) ([]byte, error) {
	if _, err := exec.LookPath(name); err != nil {
		return nil, fmt.Errorf("looking for %s: this needs a Debian-like system: %w", name, err)
	}
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "LC_ALL=C", "DEBIAN_FRONTEND=noninteractive")
	var out, log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &log
	logrus.Debugf("deb: %s %s", name, strings.Join(args, " "))
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return nil, &aptError{Command: name + " " + strings.Join(args, " "), Log: log.String() + out.String(), Err: err}
	}
	return out.Bytes(), nil
}

var indexOnce sync.Mutex

// ensureIndex sees to it that apt has a package index. Root may fetch it; it is
// done at most once because the second look finds it.
func (c *Cache) ensureIndex(ctx context.Context) error {
	indexOnce.Lock()
	defer indexOnce.Unlock()
	ok, err := c.haveIndex(ctx)
	if err != nil || ok {
		return err
	}
	if os.Geteuid() != 0 {
		return ErrNoIndex
	}
	c.progress("fetching the package index", 0, 0)
	if _, err := c.apt(ctx, "/", "apt-get", "-q", "update"); err != nil {
		return fmt.Errorf("fetching the package index: %w", err)
	}
	if ok, err = c.haveIndex(ctx); err == nil && !ok {
		return ErrNoIndex
	}
	return err
}

// haveIndex looks for the index of any archive. The installed packages
// (/var/lib/dpkg/status) are in apt's cache too, so that asking for a package
// cannot tell an empty index from a missing package.
func (c *Cache) haveIndex(ctx context.Context) (bool, error) {
	out, err := c.apt(ctx, "/", "apt-config", "shell", "LISTS", "Dir::State::lists/d")
	if err != nil {
		return false, fmt.Errorf("asking apt for its index folder: %w", err)
	}
	_, dir, ok := strings.Cut(strings.TrimSpace(string(out)), "=")
	if !ok {
		return false, fmt.Errorf("asking apt for its index folder: unexpected answer %q", out)
	}
	found, err := filepath.Glob(filepath.Join(strings.Trim(dir, "'\""), "*_Packages*"))
	return len(found) > 0, err
}

// Versions lists the versions of a package that the archives carry, newest
// first; none if the package is unknown. Kernel packages that the configured
// archives lack are looked for in the backports. It returns ErrNoIndex if apt
// has no index and the caller is not root.
func (c *Cache) Versions(ctx context.Context, pkg string) ([]string, error) {
	if err := checkName(pkg); err != nil {
		return nil, err
	}
	if err := c.ensureIndex(ctx); err != nil {
		return nil, err
	}
	if !fromKernel(pkg) {
		return c.versionsIn(ctx, archive{}, pkg)
	}
	var versions []string
	err := c.anyArchive(ctx, func(a archive) (bool, error) {
		vs, err := c.versionsIn(ctx, a, pkg)
		versions = vs
		return len(vs) > 0, err
	})
	return versions, err
}

func (c *Cache) versionsIn(ctx context.Context, a archive, pkg string) ([]string, error) {
	out, err := c.aptIn(ctx, a, "/", "apt-cache", "madison", pkg)
	if err != nil {
		return nil, fmt.Errorf("listing the versions of %s: %w", pkg, err)
	}
	return parseMadison(out, pkg), nil
}

// fromKernel reports packages that are made from the kernel's source: of those
// later ones are in the backports.
func fromKernel(pkg string) bool { return strings.HasPrefix(pkg, "linux-") }

// parseMadison reads `package | version | origin` lines. Lines of source
// packages are left out; a version that several archives carry counts once.
func parseMadison(out []byte, pkg string) []string {
	var versions []string
	seen := map[string]bool{}
	for _, line := range strings.Split(string(out), "\n") {
		f := strings.Split(line, "|")
		if len(f) != 3 || strings.TrimSpace(f[0]) != pkg || strings.HasSuffix(strings.TrimSpace(f[2]), "Sources") {
			continue
		}
		if v := strings.TrimSpace(f[1]); v != "" && !seen[v] {
			seen[v] = true
			versions = append(versions, v)
		}
	}
	sortNewestFirst(versions)
	return versions
}

// checkName keeps anything that is not a package name away from command lines
// and file names (Debian policy 5.6.1).
func checkName(pkg string) error {
	for i, r := range pkg {
		ok := r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || i > 0 && strings.ContainsRune("+-._", r)
		if !ok {
			return fmt.Errorf("%q is not the name of a Debian package", pkg)
		}
	}
	if pkg == "" {
		return errors.New("the name of a Debian package is empty")
	}
	return nil
}

// checkVersion is the same for versions (Debian policy 5.6.12).
func checkVersion(version string) error {
	for _, r := range version {
		ok := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune(".+-~:", r)
		if !ok {
			return fmt.Errorf("%q is not the version of a Debian package", version)
		}
	}
	if version == "" || version[0] < '0' || version[0] > '9' {
		return fmt.Errorf("%q is not the version of a Debian package", version)
	}
	return nil
}
