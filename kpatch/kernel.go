// SPDX-License-Identifier: Apache-2.0

// Package kpatch is the running kernel's livepatch core and module loader:
// load, disable, reverse, unload, list and watch, through system calls, sysfs
// and procfs only. It knows nothing of updates beyond their modules; what is
// ours and what is foreign is for package versions to say.
//
// Reading needs no privilege except for tasks' stacks and patch states
// (CAP_SYS_ADMIN, CAP_SYS_PTRACE); changing anything needs CAP_SYS_MODULE or
// root. Facts are from Linux 6.1 (kernel/livepatch, kernel/module, fs/proc) and
// hold since 5.1, where a disabled livepatch began to vanish by itself.
package kpatch

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/lupatch/lupatch/internal/refuse"
)

// Syscalls is what changes the kernel. Real is the real one; package
// kpatchtest has one that acts on a directory.
type Syscalls interface {
	// InitModule loads a module from memory: init_module(2).
	InitModule(image []byte, params string) error
	// DeleteModule unloads a module without waiting: delete_module(2) with
	// O_NONBLOCK.
	DeleteModule(name string) error
	// WriteFile writes a sysfs attribute in one write(2).
	WriteFile(path string, data []byte) error
	// OnCPU runs f on a thread that the scheduler keeps on one CPU, so that
	// while f runs nothing else runs there.
	OnCPU(cpu int, f func()) error
}

// Kernel is a running kernel.
type Kernel struct {
	// Root is put before /sys, /proc and /dev; empty on a real host.
	Root string
	Sys  Syscalls
}

// Running gives the kernel this process runs on.
func Running() *Kernel { return &Kernel{Sys: Real{}} }

const livepatchDir = "/sys/kernel/livepatch"

// Path gives the place of an absolute path of this kernel's file systems.
func (k *Kernel) Path(elem ...string) string {
	return filepath.Join(append([]string{k.Root, "/"}, elem...)...)
}

// Supported checks that the kernel was built with CONFIG_LIVEPATCH, else
// refuse.NoLivepatch.
func (k *Kernel) Supported() error {
	if _, err := os.Stat(k.Path(livepatchDir)); errors.Is(err, fs.ErrNotExist) {
		return refuse.New(refuse.NoLivepatch, "", "there is no %s", livepatchDir)
	} else if err != nil {
		return fmt.Errorf("looking for livepatch support: %w", err)
	}
	return nil
}

// Release is the kernel's release, as uname -r gives it.
func (k *Kernel) Release() (string, error) {
	s, err := k.attr("/proc/sys/kernel/osrelease")
	if err != nil {
		return "", fmt.Errorf("reading the kernel's release: %w", err)
	}
	return s, nil
}

// BootID differs between any two boots (random(4)).
func (k *Kernel) BootID() (string, error) {
	s, err := k.attr("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", fmt.Errorf("reading the id of this boot: %w", err)
	}
	return s, nil
}

// Uptime is the time since the kernel has booted.
func (k *Kernel) Uptime() (time.Duration, error) {
	s, err := k.attr("/proc/uptime")
	if err != nil {
		return 0, fmt.Errorf("reading the uptime: %w", err)
	}
	s, _, _ = strings.Cut(s, " ")
	seconds, err := strconv.ParseFloat(s, 64)
	if err != nil {
		return 0, fmt.Errorf("reading the uptime: %w", err)
	}
	return time.Duration(seconds * float64(time.Second)), nil
}

// Parameter looks for NAME=VALUE on the kernel's command line; the last one counts.
func (k *Kernel) Parameter(name string) (value string, ok bool, err error) {
	s, err := k.attr("/proc/cmdline")
	if err != nil {
		return "", false, fmt.Errorf("reading the kernel's command line: %w", err)
	}
	for _, word := range strings.Fields(s) {
		if n, v, has := strings.Cut(word, "="); has && n == name {
			value, ok = v, true
		}
	}
	return value, ok, nil
}

// attr reads a small file of sysfs or procfs without its final newline.
func (k *Kernel) attr(elem ...string) (string, error) {
	b, err := os.ReadFile(k.Path(elem...))
	return strings.TrimRight(string(b), "\n"), err
}

func (k *Kernel) boolAttr(elem ...string) (bool, error) {
	s, err := k.attr(elem...)
	if err != nil {
		return false, err
	}
	n, err := strconv.Atoi(s)
	if err != nil {
		return false, fmt.Errorf("reading %s: %w", filepath.Join(elem...), err)
	}
	return n != 0, nil
}

// waitFor calls done every interval until it is true, fails or ctx ends. It is
// for what the kernel offers no notification of; each caller says why.
func waitFor(ctx context.Context, done func() (bool, error)) error {
	t := newTicker()
	defer t.Stop()
	for {
		ok, err := done()
		if ok || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-t.C:
		}
	}
}
