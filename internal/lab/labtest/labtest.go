// SPDX-License-Identifier: Apache-2.0

// Package labtest boots lab hosts for tests. A test that cannot have one fails:
// it is skipped under -short only.
package labtest

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lupatch/lupatch/internal/deb"
	"github.com/lupatch/lupatch/internal/lab"
	"github.com/lupatch/lupatch/internal/sample"
)

// Release is the kernel that tests run on if they do not ask for another one:
// its packages are all in Debian 12. LUPATCH_TEST_KERNEL names another one for a run of
// tests that are about lupatch, not about this kernel.
var Release = cmp.Or(os.Getenv("LUPATCH_TEST_KERNEL"), "6.1.0-47-amd64")

// Later is the series of the kernel that the backports of Debian 12 carry.
const Later = "6.12"

var backport = sync.OnceValues(func() (string, error) {
	cache, err := deb.New("")
	if err != nil {
		return "", err
	}
	release, _, err := cache.NewestBackport(context.Background(), Later)
	return release, err
})

// Backport is the newest kernel of Later in the backports.
func Backport(t testing.TB) string {
	t.Helper()
	SkipIfShort(t)
	release, err := backport()
	if err != nil {
		t.Fatalf("looking for the newest backported kernel: %v", err)
	}
	return release
}

// keepBuilt is how long a program built for an earlier state of the source
// stays in the cache.
const keepBuilt = 24 * time.Hour

// An Option changes what Boot expects of a host.
type Option func(*expectation)

type expectation struct{ allowed []*regexp.Regexp }

// Allow names console lines that are no faults in this test, by a regular
// expression for their text.
func Allow(expr string) Option {
	re := regexp.MustCompile(expr)
	return func(e *expectation) { e.allowed = append(e.allowed, re) }
}

// Boot starts a host with lupatch as its first process (and as /bin/lupatch),
// and lets the test fail if its console shows a fault by the time the test is
// over. The zero Config boots Release.
func Boot(t testing.TB, conf lab.Config, opts ...Option) *lab.Host {
	t.Helper()
	SkipIfShort(t)
	var e expectation
	for _, o := range opts {
		o(&e)
	}
	if conf.Release == "" && conf.Kernel == nil {
		conf.Release = Release
	}
	if conf.Init == "" {
		conf.Init = Lupatch(t)
	}
	// KASLR has no bearing on most tests, and half of the boot to itself.
	conf.Unpacked = conf.Unpacked || !sample.Drawn(t.Name()+" with KASLR", 4)
	h, err := lab.Boot(t.Context(), conf)
	if err != nil {
		t.Fatalf("booting a lab host: %v", err)
	}
	if h.Restarted {
		t.Logf("the first attempt to boot stood still")
	}
	t.Logf("lab host %s up after %v (%s)", h.Release, h.BootTime.Round(time.Millisecond), h.Accel)
	t.Cleanup(func() {
		h.Close()
		for _, f := range Unexpected(h, e.allowed...) {
			t.Errorf("fault in the lab host: %s", f)
		}
		if t.Failed() {
			t.Logf("console of the lab host:\n%s", lastLines(h.Console(), 120))
		}
	})
	return h
}

// Unexpected are the faults on a console whose text no expression allows.
func Unexpected(h *lab.Host, allowed ...*regexp.Regexp) []lab.Fault {
	var out []lab.Fault
next:
	for _, f := range h.Faults() {
		for _, re := range allowed {
			if re.MatchString(f.Text) {
				continue next
			}
		}
		out = append(out, f)
	}
	return out
}

// SkipIfShort skips a test that needs a lab host when asked to with -short.
func SkipIfShort(t testing.TB) {
	t.Helper()
	if testing.Short() {
		t.Skip("needs a lab host")
	}
}

// Context ends with the test, or some seconds before the test binary's
// deadline, so that a test that hangs still says where.
func Context(t *testing.T) context.Context {
	t.Helper()
	if d, ok := t.Deadline(); ok {
		ctx, cancel := context.WithDeadline(t.Context(), d.Add(-10*time.Second))
		t.Cleanup(cancel)
		return ctx
	}
	return t.Context()
}

// Sh runs a script in the guest, lets the test fail unless it ends with status
// 0, and gives its standard output without the last newline.
func Sh(t testing.TB, h *lab.Host, script string) string {
	t.Helper()
	r, err := h.Sh(t.Context(), script)
	if err != nil {
		t.Fatalf("%s: %v", script, err)
	}
	if r.Code != 0 {
		t.Fatalf("%s: status %d\n%s%s", script, r.Code, r.Stdout, r.Stderr)
	}
	return strings.TrimRight(string(r.Stdout), "\n")
}

// Kernel is the unpacked package of a release.
func Kernel(t testing.TB, release string) *deb.Kernel {
	t.Helper()
	SkipIfShort(t)
	cache, err := deb.New("")
	if err != nil {
		t.Fatal(err)
	}
	k, err := cache.KernelImage(t.Context(), release)
	if err != nil {
		t.Fatalf("fetching the kernel %s: %v", release, err)
	}
	return k
}

var built = sync.OnceValues(build)

// Lupatch is the path of a static lupatch built from the present source, once
// per test process.
func Lupatch(t testing.TB) string {
	t.Helper()
	path, err := built()
	if err != nil {
		t.Fatalf("building lupatch for the lab host: %v", err)
	}
	return path
}

// build leaves the program in the cache under the digest of its content, so
// that test processes of one source state share it and none overwrites what
// another one is using.
func build() (string, error) {
	out, err := exec.Command("go", "env", "GOMOD").Output()
	if err != nil {
		return "", fmt.Errorf("looking for the module: %w", err)
	}
	root := filepath.Dir(strings.TrimSpace(string(out)))
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(cache, "lupatch", "lab", "bin")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	tmp, err := os.MkdirTemp(dir, ".build-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(tmp)
	bin := filepath.Join(tmp, "lupatch")
	cmd := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-o", bin, program)
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w\n%s", err, out)
	}
	image, err := os.ReadFile(bin)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(image)
	path := filepath.Join(dir, "lupatch-"+hex.EncodeToString(sum[:8]))
	if err := os.Rename(bin, path); err != nil {
		return "", err
	}
	prune(dir)
	return path, nil
}

// program is the real command, which calls lab.RunIfGuest.
const program = "./cmd/lupatch"

// prune removes what earlier states of the source left.
func prune(dir string) {
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		if info, err := e.Info(); err == nil && time.Since(info.ModTime()) > keepBuilt {
			os.RemoveAll(filepath.Join(dir, e.Name()))
		}
	}
}

func lastLines(s string, n int) string {
	lines := strings.Split(s, "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}
