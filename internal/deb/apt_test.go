// SPDX-License-Identifier: Apache-2.0

package deb

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// These tests ask the real apt and its archives.

func realCache(t *testing.T) (*Cache, context.Context) {
	t.Helper()
	if testing.Short() {
		t.Skip("uses the network")
	}
	c, err := New(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	t.Cleanup(cancel)
	return c, ctx
}

func TestFetchAndUnpackInParallel(t *testing.T) {
	first, ctx := realCache(t)
	versions, err := first.Versions(ctx, "busybox-static")
	if err != nil || len(versions) == 0 {
		t.Fatalf("versions: %v, %v", versions, err)
	}
	var mu sync.Mutex
	told := map[string]int64{}
	var wg sync.WaitGroup
	dirs := make([]string, 4)
	for i := range dirs {
		wg.Add(1)
		go func() {
			defer wg.Done()
			c, _ := New(first.Root)
			c.Progress = func(stage string, done, total int64) {
				mu.Lock()
				told[stage] = max(told[stage], done)
				mu.Unlock()
			}
			dir, err := c.Unpack(ctx, "busybox-static", "")
			if err != nil {
				t.Error(err)
			}
			dirs[i] = dir
		}()
	}
	wg.Wait()
	for _, d := range dirs {
		if d != dirs[0] || d == "" {
			t.Errorf("different folders: %q", dirs)
		}
	}
	if info, err := os.Stat(filepath.Join(dirs[0], "bin", "busybox")); err != nil || info.Mode().Perm()&0o100 == 0 || info.Size() < 500_000 {
		t.Errorf("busybox: %v, %v", info, err)
	}
	for _, stage := range []string{"downloading busybox-static=" + versions[0], "unpacking busybox-static " + versions[0]} {
		if told[stage] == 0 {
			t.Errorf("no progress of %q in %v", stage, told)
		}
	}
	for _, sub := range []string{"archives", "unpacked"} {
		if left, _ := os.ReadDir(filepath.Join(first.Root, sub)); len(left) != 1 {
			t.Errorf("%s holds %v", sub, left)
		}
	}
	part, err := first.Unpack(ctx, "busybox-static", versions[0], "usr/share/doc")
	if err != nil || exists(filepath.Join(part, "bin")) || !exists(filepath.Join(part, "usr/share/doc/busybox-static")) {
		t.Errorf("filtered: %s, %v", part, err)
	}
}

func TestWhatTheArchivesLackIsNamed(t *testing.T) {
	c, ctx := realCache(t)
	_, err := c.Fetch(ctx, "busybox-static", "1:0.0-1")
	if !IsUnavailable(err) || !strings.Contains(err.Error(), "busybox-static") || !strings.Contains(err.Error(), "1:0.0-1") || !strings.Contains(err.Error(), "which carry 1:") {
		t.Errorf("unknown version: %v", err)
	}
	if _, err := c.Fetch(ctx, "no-such-package-of-ours", ""); !IsUnavailable(err) {
		t.Errorf("unknown package: %v", err)
	}
	series := strings.Join(strings.SplitN(newestHere(t, c, ctx), ".", 3)[:2], ".")
	_, err = c.KernelImage(ctx, series+".0-9999-"+debArch())
	if !IsUnavailable(err) || !strings.Contains(err.Error(), "which carry "+series+".") {
		t.Errorf("unknown release: %v", err)
	}
	if _, _, err := c.NewestKernel(ctx, "1.2"); !IsUnavailable(err) {
		t.Errorf("unknown series: %v", err)
	}
}

// newestHere is the kernel that this distribution's meta package stands for.
func newestHere(t *testing.T, c *Cache, ctx context.Context) string {
	t.Helper()
	for _, series := range []string{"6.1", "6.12"} {
		if r, v, err := c.NewestKernel(ctx, series); err == nil {
			if versions, err := c.Versions(ctx, "linux-image-"+r); err != nil || versions[0] != v {
				t.Errorf("newest %s: %s, versions %v, %v", r, v, versions, err)
			}
			return r
		}
	}
	t.Fatal("the archives of this machine have no kernel of a Debian series")
	return ""
}

func TestHostKernelIsPreferred(t *testing.T) {
	c, _ := New(t.TempDir())
	c.HostRoot = t.TempDir()
	for _, p := range []string{"boot/vmlinuz-6.1.0-1-amd64", "lib/modules/6.1.0-1-amd64/kernel/x"} {
		path := filepath.Join(c.HostRoot, p)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	k, err := c.KernelImage(context.Background(), "6.1.0-1-amd64")
	if err != nil || k.Dir != c.HostRoot || k.Package != "" {
		t.Errorf("%+v, %v", k, err)
	}
	if err := os.RemoveAll(filepath.Join(k.Modules(), "kernel")); err != nil {
		t.Fatal(err)
	}
	if k := c.hostKernel("6.1.0-1-amd64"); k != nil {
		t.Errorf("a removed kernel was taken: %+v", k)
	}
}

// TestNoIndex gives apt an empty state folder and no sources, so that even
// root's own attempt to fetch an index finds none.
func TestNoIndex(t *testing.T) {
	c, ctx := realCache(t)
	dir := t.TempDir()
	conf := filepath.Join(dir, "apt.conf")
	text := fmt.Sprintf("Dir::State::lists %q;\nDir::Etc::sourcelist \"/dev/null\";\nDir::Etc::sourceparts \"/dev/null\";\nDir::Cache %q;\nAPT::Sandbox::User \"root\";\n", dir+"/lists", dir+"/cache")
	for _, d := range []string{"lists/partial", "cache/archives/partial"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(conf, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	t.Setenv("APT_CONFIG", conf)
	if _, err := c.Versions(ctx, "busybox-static"); !errors.Is(err, ErrNoIndex) || !strings.Contains(err.Error(), "apt-get update") {
		t.Errorf("got %v", err)
	}
}

func TestDamagedPackageLeavesNothingBehind(t *testing.T) {
	c, ctx := realCache(t)
	path, err := c.Fetch(ctx, "busybox-static", "")
	if err != nil {
		t.Fatal(err)
	}
	info, _ := os.Stat(path)
	if err := os.Truncate(path, info.Size()/2); err != nil {
		t.Fatal(err)
	}
	if dir, err := c.Unpack(ctx, "busybox-static", ""); err == nil {
		t.Errorf("a truncated package was unpacked to %s", dir)
	} else if !errors.Is(err, errDamaged) {
		t.Errorf("got %v", err)
	}
	if left, _ := os.ReadDir(filepath.Join(c.Root, "unpacked")); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
	if dir, err := c.Unpack(ctx, "busybox-static", ""); err != nil || !exists(filepath.Join(dir, "bin/busybox")) {
		t.Errorf("the second try did not fetch it again: %v", err)
	}
}

func TestAnyVersionNeedsNoApt(t *testing.T) {
	c, ctx := realCache(t)
	if v := c.AnyVersion("busybox-static"); v != "" {
		t.Errorf("an empty cache has %q", v)
	}
	versions, err := c.Versions(ctx, "busybox-static")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Fetch(ctx, "busybox-static", ""); err != nil {
		t.Fatal(err)
	}
	c.apt = func(context.Context, string, string, ...string) ([]byte, error) {
		return nil, errors.New("apt was asked")
	}
	if v := c.AnyVersion("busybox-static"); v != versions[0] {
		t.Errorf("got %q, want %q", v, versions[0])
	}
	if _, err := c.Unpack(ctx, "busybox-static", c.AnyVersion("busybox-static")); err != nil {
		t.Error(err)
	}
}
