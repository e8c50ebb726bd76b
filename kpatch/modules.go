// SPDX-License-Identifier: Apache-2.0

package kpatch

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/lupatch/lupatch/internal/kmodule"
)

// Module is a line of /proc/modules.
type Module struct {
	Name string
	// Size of its memory in bytes.
	Size uint64
	// Refs counts its users; -1 in a kernel that cannot unload modules.
	Refs int
	// Users are the modules that need it.
	Users []string
	// State is Live, Loading or Unloading.
	State string
	// Taints are letters such as O (out of tree), E (unsigned), K (livepatch).
	Taints string
}

// Modules gives the loaded modules, the newest first: the kernel puts a module
// at the head of its list when it is loaded (kernel/module/main.c).
func (k *Kernel) Modules() ([]Module, error) {
	b, err := os.ReadFile(k.Path("/proc/modules"))
	if err != nil {
		return nil, fmt.Errorf("listing modules: %w", err)
	}
	return parseModules(string(b))
}

// parseModules reads "name size refs users state address (taints)"; users are
// separated by commas and end in one, "-" if there are none.
func parseModules(text string) ([]Module, error) {
	var list []Module
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) == 0 {
			continue
		}
		if len(f) < 5 {
			return nil, fmt.Errorf("listing modules: a line that cannot be read: %q", line)
		}
		m := Module{Name: f[0], State: f[4], Refs: -1}
		var err error
		if m.Size, err = strconv.ParseUint(f[1], 10, 64); err != nil {
			return nil, fmt.Errorf("listing modules: size of %s: %w", m.Name, err)
		}
		if f[2] != "-" {
			if m.Refs, err = strconv.Atoi(f[2]); err != nil {
				return nil, fmt.Errorf("listing modules: references to %s: %w", m.Name, err)
			}
		}
		for _, u := range strings.Split(f[3], ",") {
			// "[permanent]" stands there for a module without exit function.
			if u != "" && u != "-" && !strings.HasPrefix(u, "[") {
				m.Users = append(m.Users, u)
			}
		}
		if len(f) > 6 {
			m.Taints = strings.Trim(f[len(f)-1], "()")
		}
		list = append(list, m)
	}
	return list, nil
}

// Loaded says whether a module of that name is in memory.
func (k *Kernel) Loaded(name string) (bool, error) {
	list, err := k.Modules()
	if err != nil {
		return false, err
	}
	for _, m := range list {
		if m.Name == name {
			return true, nil
		}
	}
	return false, nil
}

// UnitBuildID is the build id, in hex, of vmlinux or of a loaded module.
// fs.ErrNotExist is in the chain if the module is not loaded or has none.
func (k *Kernel) UnitBuildID(unit string) (string, error) {
	if unit == "vmlinux" {
		return k.buildID("/sys/kernel/notes")
	}
	return k.ModuleBuildID(unit)
}

// ModuleBuildID is the build id, in hex, of a loaded module.
// fs.ErrNotExist is in the chain if it is not loaded or has none.
func (k *Kernel) ModuleBuildID(name string) (string, error) {
	return k.buildID("/sys/module", name, "notes/.note.gnu.build-id")
}

func (k *Kernel) buildID(elem ...string) (string, error) {
	b, err := os.ReadFile(k.Path(elem...))
	if err != nil {
		return "", fmt.Errorf("reading a build id: %w", err)
	}
	id := NoteBuildID(b)
	if id == "" {
		return "", fmt.Errorf("reading a build id: there is none in %s: %w", k.Path(elem...), os.ErrNotExist)
	}
	return id, nil
}

// NoteBuildID finds the build id in the content of a note section, in hex;
// empty if there is none.
func NoteBuildID(b []byte) string { return kmodule.NoteBuildID(b) }
