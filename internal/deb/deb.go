// SPDX-License-Identifier: Apache-2.0

// Package deb finds, downloads and unpacks Debian packages into a cache of the
// user. Nothing is installed and no privilege is needed: apt-cache, apt-get
// download and dpkg-deb do the work, so that signatures and hashes are checked
// by apt as for any other download.
package deb

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"

	"golang.org/x/sys/unix"
)

// Progress is told how far a piece of work is. Total is 0 while it is unknown;
// done and total are bytes.
type Progress func(stage string, done, total int64)

// Cache is a folder of downloaded and unpacked packages. Several processes may
// share one. The zero value is not usable; see New.
type Cache struct {
	// Root is the folder; it is created when first needed.
	Root string
	// Progress is called now and then during long work, if not nil, possibly
	// from other goroutines.
	Progress Progress
	// HostRoot is where a kernel installed on this host is looked for
	// (HostRoot/boot and HostRoot/lib/modules), and the name of its
	// distribution (HostRoot/etc/os-release). Empty means "/".
	HostRoot string

	apt aptRunner
}

// New gives the cache below root. An empty root means os.UserCacheDir()/lupatch/deb.
func New(root string) (*Cache, error) {
	if root == "" {
		base, err := os.UserCacheDir()
		if err != nil {
			return nil, fmt.Errorf("finding the cache folder: %w", err)
		}
		root = filepath.Join(base, "lupatch", "deb")
	}
	root, err := filepath.Abs(root)
	if err != nil {
		return nil, fmt.Errorf("finding the cache folder: %w", err)
	}
	return &Cache{Root: root, apt: runApt}, nil
}

func (c *Cache) root() string {
	if c.HostRoot == "" {
		return "/"
	}
	return c.HostRoot
}

func (c *Cache) progress(stage string, done, total int64) {
	if c.Progress != nil {
		c.Progress(stage, done, total)
	}
}

// fileVersion spells a version as apt does in file names: an epoch's colon
// would be a drive or list separator elsewhere.
func fileVersion(version string) string { return strings.ReplaceAll(version, ":", "%3a") }

// filterKey tells the unpacked folders of one package with different filters apart.
func filterKey(paths []string) string {
	if len(paths) == 0 {
		return ""
	}
	sorted := append([]string(nil), paths...)
	sort.Strings(sorted)
	sum := sha256.Sum256([]byte(strings.Join(sorted, "\x00")))
	return "-" + hex.EncodeToString(sum[:6])
}

// lock takes the cache's lock of that name, waiting for other processes. The
// kernel releases it when its holder dies, so that it is never stale.
func (c *Cache) lock(ctx context.Context, name string) (unlock func(), err error) {
	dir := filepath.Join(c.Root, "locks")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("locking %s: %w", name, err)
	}
	f, err := os.OpenFile(filepath.Join(dir, name), os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, fmt.Errorf("locking %s: %w", name, err)
	}
	got := make(chan error, 1)
	go func() { got <- flock(f) }()
	select {
	case err := <-got:
		if err != nil {
			f.Close()
			return nil, fmt.Errorf("locking %s: %w", name, err)
		}
		return func() { f.Close() }, nil
	case <-ctx.Done():
		// flock cannot be interrupted; whenever it is granted, give it back.
		go func() { <-got; f.Close() }()
		return nil, fmt.Errorf("waiting for the lock of %s: %w", name, ctx.Err())
	}
}

func flock(f *os.File) error {
	for {
		if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
