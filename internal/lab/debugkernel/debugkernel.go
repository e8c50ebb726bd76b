// SPDX-License-Identifier: Apache-2.0

// Package debugkernel builds the kernel in which driver replacement is tested
// for what a distribution's kernel does not notice: KASAN, lockdep, checks of
// lists, timers, work items and DMA. It is made from the distribution's source
// and a configuration of its own, small enough for two processors to build it in
// some ten minutes, and kept by content.
package debugkernel

import (
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/google/renameio/v2"
	"golang.org/x/sys/unix"

	"github.com/lupatch/lupatch/internal/deb"
	"github.com/lupatch/lupatch/internal/kbuild"
)

// The source that the kernel is made from, and the compiler of that
// distribution.
const (
	baseRelease   = "6.1.0-47-amd64"
	sourceVersion = "6.1.170-3"
	compiler      = "gcc-12"
)

// Stage is what takes longest.
const Stage = "building the debug kernel"

//go:embed kernel.config
var config string

// Kernel is the built kernel, in the layout of an unpacked image package.
type Kernel struct {
	deb.Kernel
	// Build is the folder that modules are compiled against:
	// `make -C Build M=DIR modules`. The compiler is CC.
	Build string
	CC    string
	// Cached says that there was nothing to do.
	Cached bool
}

// Options of Open; the zero value is usable.
type Options struct {
	// Dir is the folder that holds built kernels; empty means
	// os.UserCacheDir()/lupatch/lab/debugkernel.
	Dir string
	// Debs is where the source comes from; nil means the user's cache.
	Debs *deb.Cache
	// Progress may be nil. It is told make's lines of Stage, some 2,200; their
	// total is not known in advance.
	Progress deb.Progress
}

// Open gives the kernel, building it first if that has not been done: 10 to 20
// minutes and 2 GB. One that was interrupted goes on where it was. Several
// processes may call it at a time; one of them builds.
func Open(ctx context.Context, opt Options) (*Kernel, error) {
	dir, err := opt.dir()
	if err != nil {
		return nil, err
	}
	if k, ok := opened(dir); ok {
		return k, nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("making the debug kernel's folder: %w", err)
	}
	unlock, err := lock(ctx, dir+".lock")
	if err != nil {
		return nil, err
	}
	defer unlock()
	if k, ok := opened(dir); ok {
		return k, nil
	}
	if err := build(ctx, dir, opt); err != nil {
		return nil, fmt.Errorf("building the debug kernel: %w", err)
	}
	k, ok := opened(dir)
	if !ok {
		return nil, fmt.Errorf("building the debug kernel: %s has no kernel", dir)
	}
	k.Cached = false
	return k, nil
}

// Built gives the kernel if it has been built.
func Built(opt Options) (*Kernel, bool) {
	dir, err := opt.dir()
	if err != nil {
		return nil, false
	}
	return opened(dir)
}

// dir is the folder of the present kernel.
func (opt *Options) dir() (string, error) {
	parent := opt.Dir
	if parent == "" {
		base, err := os.UserCacheDir()
		if err != nil {
			return "", fmt.Errorf("finding the cache folder: %w", err)
		}
		parent = filepath.Join(base, "lupatch", "lab", "debugkernel")
	}
	return filepath.Join(parent, key(config, sourceVersion, compiler)), nil
}

// key names a kernel by everything that it is made from.
func key(parts ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(parts, "\x00")))
	return hex.EncodeToString(sum[:8])
}

// doneFile is written last; it holds the release.
const doneFile = "release"

func opened(dir string) (*Kernel, bool) {
	text, err := os.ReadFile(filepath.Join(dir, doneFile))
	release := strings.TrimSpace(string(text))
	if err != nil || release == "" {
		return nil, false
	}
	return &Kernel{Kernel: deb.Kernel{Release: release, Dir: dir}, Build: filepath.Join(dir, "build"), CC: compiler, Cached: true}, true
}

// lock waits for other processes. The kernel gives it back when its holder dies.
func lock(ctx context.Context, name string) (unlock func(), err error) {
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, fmt.Errorf("locking the debug kernel: %w", err)
	}
	got := make(chan error, 1)
	go func() {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX)
		for err == unix.EINTR {
			err = unix.Flock(int(f.Fd()), unix.LOCK_EX)
		}
		got <- err
	}()
	select {
	case err := <-got:
		if err != nil {
			f.Close()
			return nil, fmt.Errorf("locking the debug kernel: %w", err)
		}
		return func() { f.Close() }, nil
	case <-ctx.Done():
		go func() { <-got; f.Close() }()
		return nil, fmt.Errorf("waiting for another build of the debug kernel: %w", ctx.Err())
	}
}

func build(ctx context.Context, dir string, opt Options) error {
	if _, err := exec.LookPath(compiler); err != nil {
		return fmt.Errorf("looking for the compiler: %w; run `apt-get install %s` as root", err, compiler)
	}
	tree, err := kbuild.Open(ctx, kbuild.Options{
		Release: baseRelease, SourceVersion: sourceVersion, Debs: opt.Debs, AnyCompiler: true, Progress: kbuild.Progress(opt.Progress),
	})
	if err != nil {
		return err
	}
	m := maker{src: tree.Src, obj: filepath.Join(dir, "build"), progress: opt.Progress}
	if err := m.configure(ctx); err != nil {
		return err
	}
	if err := m.run(ctx, Stage, "bzImage", "modules"); err != nil {
		return err
	}
	// An earlier attempt may have left a part.
	if err := os.RemoveAll(filepath.Join(dir, "lib")); err != nil {
		return err
	}
	if err := m.run(ctx, "installing its modules", "INSTALL_MOD_PATH="+dir, "modules_install"); err != nil {
		return err
	}
	return m.finish(dir)
}

// finish lays the results out as an image package does.
func (m *maker) finish(dir string) error {
	text, err := os.ReadFile(filepath.Join(m.obj, "include/config/kernel.release"))
	if err != nil {
		return err
	}
	k := deb.Kernel{Release: strings.TrimSpace(string(text)), Dir: dir}
	if err := os.MkdirAll(filepath.Join(dir, "boot"), 0o755); err != nil {
		return err
	}
	for _, c := range [][2]string{{"arch/x86/boot/bzImage", k.Vmlinuz()}, {".config", k.Config()}} {
		image, err := os.ReadFile(filepath.Join(m.obj, c[0]))
		if err != nil {
			return err
		}
		if err := renameio.WriteFile(c[1], image, 0o644); err != nil {
			return err
		}
	}
	return renameio.WriteFile(filepath.Join(dir, doneFile), []byte(k.Release+"\n"), 0o644)
}
