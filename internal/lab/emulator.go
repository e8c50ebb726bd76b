// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"regexp"
	"sync"

	"github.com/sirupsen/logrus"

	"github.com/lupatch/lupatch/internal/deb"
)

const qemuProgram = "qemu-system-x86_64"

// ErrNoQEMU says that QEMU is not installed.
var ErrNoQEMU = errors.New(qemuProgram + " is not installed; run `apt-get install qemu-system-x86` as root")

// coherentQEMU is a version of QEMU whose TCG was seen to notice every change of
// code that another processor is about to execute. In 7.2 a processor may hang within
// minutes of functions being traced or patched while they are in use, at the very
// instruction that was exchanged (make evidence-emulator).
const coherentQEMU = "1:10.0"

// qemuPackages are the parts of it that are kept in the cache where the host's own
// is older. What they are linked with is the same as for the host's.
var qemuPackages = []string{"qemu-system-x86", "qemu-system-data", "seabios"}

// emulator is a QEMU.
type emulator struct {
	path string
	args []string // that have to come first
	// coherent: it may have a thread for each processor.
	coherent bool
}

var emulators struct {
	sync.Mutex
	installed, fetched *emulator
}

// findEmulator gives the host's own QEMU, and under TCG a later one from the
// backports if the host's is too old for several processors. If there is none, the
// host's has to do, with its processors by turns in one thread.
func findEmulator(ctx context.Context, c *Config, accel Accel) (*emulator, error) {
	if c.QEMU != "" {
		return &emulator{path: c.QEMU, coherent: true}, nil
	}
	emulators.Lock()
	defer emulators.Unlock()
	own, err := installedEmulator(ctx)
	if err != nil || own.coherent || accel == KVM {
		return own, err
	}
	if emulators.fetched == nil {
		fetched, err := fetchEmulator(ctx, c.Cache)
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if err != nil {
			logrus.Warnf("lab: the installed QEMU is older than 10.0, and a later one is not to be had (%v): processors of lab hosts take turns, which is slower", err)
			fetched = own
		}
		emulators.fetched = fetched
	}
	return emulators.fetched, nil
}

var qemuVersion = regexp.MustCompile(`version (\d+\.\d+(\.\d+)?)`)

func installedEmulator(ctx context.Context) (*emulator, error) {
	if emulators.installed != nil {
		return emulators.installed, nil
	}
	path, err := exec.LookPath(qemuProgram)
	if err != nil {
		return nil, ErrNoQEMU
	}
	version, err := versionOf(ctx, path)
	if err != nil {
		return nil, err
	}
	emulators.installed = &emulator{path: path, coherent: deb.CompareVersions("1:"+version, coherentQEMU) >= 0}
	return emulators.installed, nil
}

func versionOf(ctx context.Context, path string) (string, error) {
	out, err := exec.CommandContext(ctx, path, "--version").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("asking %s for its version: %w: %s", path, err, out)
	}
	m := qemuVersion.FindSubmatch(out)
	if m == nil {
		return "", fmt.Errorf("asking %s for its version: it says %q", path, out)
	}
	return string(m[1]), nil
}

func fetchEmulator(ctx context.Context, cache *deb.Cache) (*emulator, error) {
	version := cache.AnyVersion(qemuPackages[0])
	if deb.CompareVersions(version, coherentQEMU) < 0 {
		var err error
		if version, err = cache.Backported(ctx, qemuPackages[0]); err != nil {
			return nil, err
		}
		if deb.CompareVersions(version, coherentQEMU) < 0 {
			return nil, fmt.Errorf("the backports have %s", version)
		}
	}
	var dirs []string
	for _, pkg := range qemuPackages {
		v := version
		if pkg == "seabios" {
			// It has versions of its own; any one that is not the host's will do.
			if v = cache.AnyVersion(pkg); v == "" {
				var err error
				if v, err = cache.Backported(ctx, pkg); err != nil {
					return nil, err
				}
			}
		}
		dir, err := cache.Unpack(ctx, pkg, v)
		if err != nil {
			return nil, err
		}
		dirs = append(dirs, dir)
	}
	e := &emulator{
		path:     filepath.Join(dirs[0], "usr/bin", qemuProgram),
		args:     []string{"-L", filepath.Join(dirs[1], "usr/share/qemu"), "-L", filepath.Join(dirs[2], "usr/share/seabios")},
		coherent: true,
	}
	// That it finds its libraries.
	_, err := versionOf(ctx, e.path)
	return e, err
}
