// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/lupatch/lupatch/internal/kmodule"
	"github.com/lupatch/lupatch/internal/lab/wire"
)

// Modules are loaded and unloaded by system calls, not by programs: the result
// is the kernel's own error number.

func (a *agent) insmod(id uint64, req wire.Module) {
	go func() { a.done(id, nil, insmod(req.Path, req.Params)) }()
}

func (a *agent) modprobe(id uint64, req wire.Module) {
	go func() { a.done(id, nil, modprobe(a.release, req.Name, req.Params)) }()
}

func (a *agent) rmmod(id uint64, req wire.Module) {
	go func() { a.done(id, nil, rmmod(req.Name)) }()
}

func insmod(path, params string) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("loading a module: %w", err)
	}
	defer f.Close()
	if err := unix.FinitModule(int(f.Fd()), params, 0); err != nil {
		return fmt.Errorf("loading %s: %w", path, err)
	}
	return nil
}

func rmmod(name string) error {
	if err := unix.DeleteModule(kmodule.CanonicalName(name), unix.O_NONBLOCK); err != nil {
		return fmt.Errorf("unloading %s: %w", name, err)
	}
	return nil
}

// isBuiltin looks for a module in modules.builtin, one path a line.
func isBuiltin(text, name string) bool {
	for line := range strings.Lines(text) {
		if kmodule.CanonicalName(strings.TrimSuffix(filepath.Base(strings.TrimSpace(line)), ".ko")) == name {
			return true
		}
	}
	return false
}

// findDep reads the line of a module in modules.dep.
func findDep(text, name string) (file string, deps []string, ok bool) {
	for _, line := range strings.Split(text, "\n") {
		path, rest, found := strings.Cut(line, ":")
		if found && kmodule.CanonicalName(strings.TrimSuffix(filepath.Base(path), ".ko")) == name {
			return path, strings.Fields(rest), true
		}
	}
	return "", nil, false
}
