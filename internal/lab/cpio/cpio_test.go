// SPDX-License-Identifier: Apache-2.0

package cpio

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestRealCpioReadsIt unpacks an archive with the system's cpio.
func TestRealCpioReadsIt(t *testing.T) {
	if _, err := exec.LookPath("cpio"); err != nil {
		t.Fatalf("the cpio program is needed: %v", err)
	}
	var b bytes.Buffer
	w := NewWriter(&b)
	big := bytes.Repeat([]byte("lupatch"), 100_001)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(w.File("/init", 0o755, []byte("abc")))
	must(w.File("lib/modules/r/x.ko", 0o644, big))
	must(w.File("lib/modules/r/empty", 0o600, nil))
	must(w.Symlink("bin/sh", "busybox"))
	must(w.Dir("lib", 0o700)) // there already
	must(w.Dir("proc", 0o555))
	must(w.Close())
	if b.Len()%4 != 0 {
		t.Errorf("length %d is not a multiple of 4", b.Len())
	}

	dir := t.TempDir()
	cmd := exec.Command("cpio", "-idv", "--quiet")
	cmd.Dir, cmd.Stdin = dir, bytes.NewReader(b.Bytes())
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("cpio: %v\n%s", err, out)
	}
	want := "init lib lib/modules lib/modules/r lib/modules/r/x.ko lib/modules/r/empty bin bin/sh proc"
	if got := strings.Join(strings.Fields(string(out)), " "); got != want {
		t.Errorf("cpio lists %q, want %q", got, want)
	}
	got, err := os.ReadFile(filepath.Join(dir, "lib/modules/r/x.ko"))
	if err != nil || sha256.Sum256(got) != sha256.Sum256(big) {
		t.Errorf("content differs: %v", err)
	}
	for name, mode := range map[string]os.FileMode{"init": 0o755, "lib/modules/r/empty": 0o600, "proc": 0o555 | os.ModeDir} {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Mode() != mode {
			t.Errorf("%s: %v, %v", name, info.Mode(), err)
		}
	}
	if l, err := os.Readlink(filepath.Join(dir, "bin/sh")); err != nil || l != "busybox" {
		t.Errorf("link: %q, %v", l, err)
	}
}

func TestDeviceNode(t *testing.T) {
	var b bytes.Buffer
	w := NewWriter(&b)
	if err := w.Device("dev/console", TypeChar, 0o600, 5, 1); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("cpio", "-tv", "--quiet")
	cmd.Stdin = &b
	out, err := cmd.Output()
	if err != nil || !strings.Contains(string(out), "crw-------") || !strings.Contains(string(out), "5,   1") {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestBadNamesAreRefused(t *testing.T) {
	for _, name := range []string{"", "/", "a/../b", "..", "a\x00b", "TRAILER!!!"} {
		w := NewWriter(&bytes.Buffer{})
		if w.File(name, 0o644, nil) == nil {
			t.Errorf("%q was accepted", name)
		}
		if w.Close() == nil {
			t.Errorf("after %q the archive still closed without an error", name)
		}
	}
	w := NewWriter(&bytes.Buffer{})
	if w.File("a", 0o644, nil) != nil || w.File("/a", 0o644, nil) == nil {
		t.Error("the same name twice was accepted")
	}
}

type failing struct{ after int }

var errFull = errors.New("full")

func (f *failing) Write(b []byte) (int, error) {
	if f.after -= len(b); f.after < 0 {
		return 0, errFull
	}
	return len(b), nil
}

func TestWriteErrorsStick(t *testing.T) {
	w := NewWriter(&failing{after: 200})
	_ = w.File("a", 0o644, make([]byte, 500))
	_ = w.File("b", 0o644, nil)
	if err := w.Close(); !errors.Is(err, errFull) {
		t.Errorf("got %v", err)
	}
}
