// SPDX-License-Identifier: Apache-2.0

package deb

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestBackports fetches a package that only the backports carry, with the real
// apt, and looks that nothing of apt's own has changed.
func TestBackports(t *testing.T) {
	c, ctx := realCache(t)
	before := stateOfApt(t)
	release, version, err := c.NewestBackport(ctx, "6.12")
	if err != nil || !strings.HasPrefix(release, "6.12.") || !strings.Contains(version, "~bpo") {
		t.Fatalf("newest backport: %q %q, %v", release, version, err)
	}
	t.Logf("newest backport: %s, %s", release, version)
	headers := "linux-headers-" + release
	if vs, err := c.Versions(ctx, headers); err != nil || !contains(vs, version) {
		t.Errorf("versions of %s: %v, %v", headers, vs, err)
	}
	dir, err := c.Unpack(ctx, headers, version, "usr/src/"+headers+"/.config")
	if err != nil || !exists(filepath.Join(dir, "usr/src", headers, ".config")) {
		t.Errorf("unpacking %s: %v", headers, err)
	}
	_, err = c.Fetch(ctx, "linux-source-6.12", "6.12.0-1~bpo12+1")
	if !IsUnavailable(err) || !strings.Contains(err.Error(), version) {
		t.Errorf("a version that is in no archive: %v", err)
	}
	if after := stateOfApt(t); after != before {
		t.Errorf("apt's own files were %s, now %s", before, after)
	}
}

// stateOfApt names apt's configuration and index files with their sizes and times.
func stateOfApt(t *testing.T) string {
	t.Helper()
	var b strings.Builder
	for _, pattern := range []string{"/etc/apt/*", "/etc/apt/*/*", "/var/lib/apt/lists/*"} {
		files, _ := filepath.Glob(pattern)
		for _, f := range files {
			if info, err := os.Stat(f); err == nil && info.Mode().IsRegular() {
				b.WriteString(f + " " + info.ModTime().Format(time.RFC3339Nano) + "\n")
			}
		}
	}
	return b.String()
}

func TestBackportsIndexAges(t *testing.T) {
	c, ctx := realCache(t)
	var updates int
	c.apt = counting(&updates)
	for range 2 {
		if _, err := c.backports(ctx); err != nil {
			t.Fatal(err)
		}
	}
	if updates != 1 {
		t.Errorf("a fresh index was fetched %d times", updates)
	}
	stamps, _ := filepath.Glob(filepath.Join(c.Root, "apt/*/updated"))
	old := time.Now().Add(-2 * backportsAge)
	if len(stamps) != 1 || os.Chtimes(stamps[0], old, old) != nil {
		t.Fatalf("stamps: %q", stamps)
	}
	if _, err := c.backports(ctx); err != nil || updates != 2 {
		t.Errorf("an old index: fetched %d times, %v", updates, err)
	}
}

func TestBackportsOfDebianOnly(t *testing.T) {
	c, ctx := realCache(t)
	c.HostRoot = t.TempDir()
	if _, _, err := c.NewestBackport(ctx, "6.12"); !IsUnavailable(err) {
		t.Errorf("a host without a name: %v", err)
	}
	if err := os.Mkdir(filepath.Join(c.HostRoot, "etc"), 0o755); err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]error{
		"ID=ubuntu\nVERSION_CODENAME=noble\n": errNoBackports,
		"ID=debian\n":                         errNoBackports,
		"ID=debian\nVERSION_CODENAME=zork\n":  errNoBackports,
	} {
		if err := os.WriteFile(filepath.Join(c.HostRoot, "etc/os-release"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := c.backports(ctx); !errors.Is(err, want) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// counting is the real apt with a count of its updates.
func counting(updates *int) aptRunner {
	return func(ctx context.Context, dir, name string, args ...string) ([]byte, error) {
		if contains(args, "update") {
			*updates++
		}
		return runApt(ctx, dir, name, args...)
	}
}
