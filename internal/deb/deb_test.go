// SPDX-License-Identifier: Apache-2.0

package deb

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestCompareVersions(t *testing.T) {
	// Each is older than the next.
	order := []string{"1.0~rc1-1", "1.0-1", "1.0-1+b1", "1.0+dfsg-1", "1.0a-1", "1.2-1", "1.10-1", "6.1.176-1", "6.1.192-1", "6.1.192-2", "1:0.1"}
	// Letters sort before everything else, hence 1.0a before 1.0+dfsg.
	order[3], order[4] = order[4], order[3]
	for i := range order {
		for j := range order {
			got := CompareVersions(order[i], order[j])
			if (got < 0) != (i < j) || (got > 0) != (i > j) {
				t.Errorf("CompareVersions(%s, %s) = %d", order[i], order[j], got)
			}
		}
	}
	if CompareVersions("1.00-1", "1.0-01") != 0 {
		t.Error("leading zeros count")
	}
}

func TestParseMadison(t *testing.T) {
	out := []byte(` linux-source-6.1 |  6.1.170-3 | http://a bookworm/main amd64 Packages
 linux-source-6.1 |  6.1.192-2 | http://b bookworm-security/main amd64 Packages
 linux-source-6.1 |  6.1.192-2 | http://c bookworm/main amd64 Packages
 linux-source-6.1 |  6.1.999-1 | http://c bookworm/main Sources
 linux-source |  6.1.0-1 | http://c bookworm/main amd64 Packages
garbage
`)
	if got := strings.Join(parseMadison(out, "linux-source-6.1"), " "); got != "6.1.192-2 6.1.170-3" {
		t.Errorf("got %q", got)
	}
}

func TestPickReleases(t *testing.T) {
	names := `linux-image-6.1.0-9-amd64 linux-image-6.1.0-47-amd64 linux-image-6.1.0-47-amd64-dbg linux-image-6.1.0-47-amd64-unsigned
linux-image-6.1.0-47-cloud-amd64 linux-image-6.1.0-47-rt-amd64 linux-image-6.12.48+deb13-amd64 linux-image-6.12.48+deb13-cloud-amd64 linux-image-6.12.9+deb13-amd64`
	arch := debArch()
	names = strings.ReplaceAll(names, "amd64", arch)
	want := map[string]string{"6.1": "6.1.0-47-amd64 6.1.0-9-amd64", "6.12": "6.12.48+deb13-amd64 6.12.9+deb13-amd64", "6.2": ""}
	for series, w := range want {
		if got := strings.Join(pickReleases(names, series), " "); got != strings.ReplaceAll(w, "amd64", arch) {
			t.Errorf("series %s: got %q, want %q", series, got, w)
		}
	}
}

func TestNamesFromOutsideAreChecked(t *testing.T) {
	c, _ := New(t.TempDir())
	for _, pkg := range []string{"", "-oDir=x", "a/../b", "a b", "A", "a=1"} {
		if _, err := c.Fetch(context.Background(), pkg, "1"); err == nil {
			t.Errorf("package name %q was accepted", pkg)
		}
	}
	for _, v := range []string{"x1", "1/2", "1 2", "1;2", "../1"} {
		if _, err := c.Fetch(context.Background(), "busybox", v); err == nil {
			t.Errorf("version %q was accepted", v)
		}
	}
	for _, p := range []string{"../etc", ".", "", "a/../../b"} {
		if _, err := c.Unpack(context.Background(), "busybox", "1", p); err == nil || !strings.Contains(err.Error(), "not a path inside") {
			t.Errorf("path %q: %v", p, err)
		}
	}
	for _, r := range []string{"", "../x", "6", "6.1 -o"} {
		if _, err := c.KernelImage(context.Background(), r); !IsUnavailable(err) {
			t.Errorf("release %q: %v", r, err)
		}
	}
}

func tarOf(t *testing.T, headers ...tar.Header) *bytes.Buffer {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range headers {
		if h.Typeflag == tar.TypeReg {
			h.Size = 5
		}
		if h.Mode == 0 {
			h.Mode = 0o644
		}
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if h.Typeflag == tar.TypeReg {
			if _, err := w.Write([]byte("hello")); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return &b
}

func TestExtractKeepsModesTimesAndLinks(t *testing.T) {
	when := time.Unix(1700000000, 0)
	b := tarOf(t,
		tar.Header{Name: "./", Typeflag: tar.TypeDir, Mode: 0o755},
		tar.Header{Name: "./bin/", Typeflag: tar.TypeDir, Mode: 0o755, ModTime: when},
		tar.Header{Name: "./bin/x", Typeflag: tar.TypeReg, Mode: 0o755, ModTime: when},
		tar.Header{Name: "./bin/hard", Typeflag: tar.TypeLink, Linkname: "./bin/x"},
		tar.Header{Name: "./bin/soft", Typeflag: tar.TypeSymlink, Linkname: "x"},
		tar.Header{Name: "./doc/y", Typeflag: tar.TypeReg})
	raw := b.Bytes()
	dir := t.TempDir()
	c, _ := New(t.TempDir())
	if err := c.extract(context.Background(), bytes.NewReader(raw), dir, "x", nil); err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{"bin/x", "bin/hard", "bin/soft", "doc/y"} {
		if got, err := os.ReadFile(filepath.Join(dir, p)); err != nil || string(got) != "hello" {
			t.Errorf("%s: %q, %v", p, got, err)
		}
	}
	for _, p := range []string{"bin", "bin/x"} {
		info, err := os.Stat(filepath.Join(dir, p))
		if err != nil || info.Mode().Perm() != 0o755 || !info.ModTime().Equal(when) {
			t.Errorf("%s: %v, %v", p, info, err)
		}
	}
	part := t.TempDir()
	if err := c.extract(context.Background(), bytes.NewReader(raw), part, "x", []string{"doc"}); err != nil {
		t.Fatal(err)
	}
	if !exists(filepath.Join(part, "doc/y")) || exists(filepath.Join(part, "bin")) {
		t.Error("the filter did not filter")
	}
	if err := c.extract(context.Background(), bytes.NewReader(raw), t.TempDir(), "x", []string{"nope"}); err == nil {
		t.Error("a missing path was not reported")
	}
}

func TestExtractStaysInside(t *testing.T) {
	outside := t.TempDir()
	cases := map[string][]tar.Header{
		"dotdot":       {{Name: "../evil", Typeflag: tar.TypeReg}},
		"through link": {{Name: "l", Typeflag: tar.TypeSymlink, Linkname: outside}, {Name: "l/evil", Typeflag: tar.TypeReg}},
		"hard link":    {{Name: "l", Typeflag: tar.TypeLink, Linkname: "../../etc/passwd"}},
	}
	for name, headers := range cases {
		t.Run(name, func(t *testing.T) {
			c, _ := New(t.TempDir())
			if err := c.extract(context.Background(), tarOf(t, headers...), filepath.Join(t.TempDir()), "x", nil); err == nil {
				t.Error("accepted")
			}
			if exists(filepath.Join(outside, "evil")) {
				t.Error("written outside")
			}
		})
	}
}

func TestLockWaitsAndGivesUp(t *testing.T) {
	c, _ := New(t.TempDir())
	unlock, err := c.lock(context.Background(), "x")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if _, err := c.lock(ctx, "x"); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("second holder: %v", err)
	}
	unlock()
	// The lock that was given up on must not stay taken.
	again, err := c.lock(context.Background(), "x")
	if err != nil {
		t.Fatal(err)
	}
	again()
}

func FuzzParseMadison(f *testing.F) {
	f.Add([]byte(" a | 1 | x Packages\n"))
	f.Add([]byte("|||\n| |"))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, v := range parseMadison(b, "a") {
			if v == "" {
				t.Fatal("empty version")
			}
		}
	})
}

func FuzzCompareVersions(f *testing.F) {
	f.Add("1:1.0~rc1-1", "1.0-1+b1")
	f.Fuzz(func(t *testing.T, a, b string) {
		if CompareVersions(a, a) != 0 || (CompareVersions(a, b) < 0) != (CompareVersions(b, a) > 0) {
			t.Fatalf("%q and %q have no order", a, b)
		}
	})
}
