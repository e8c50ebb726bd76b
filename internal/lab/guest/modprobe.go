// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/lupatch/lupatch/internal/kmodule"
)

// prober loads modules with what they depend on, as modprobe(8) does.
type prober struct {
	dir     string
	dep     string // modules.dep
	builtin string // modules.builtin
	soft    map[string]*kmodule.Info
	aliases string // modules.alias
	insmod  func(path, params string) error
	begun   map[string]bool
}

// modprobe loads a module after those that modules.dep lists for it, each of
// them after its soft dependencies (modules.softdep) and before those that are
// to follow. Modules that are loaded already are left as they are.
func modprobe(release, name, params string) error {
	p := &prober{dir: filepath.Join("/lib/modules", release), insmod: insmod, begun: map[string]bool{}}
	var soft string
	for _, f := range []struct {
		name string
		text *string
		must bool
	}{{"modules.dep", &p.dep, true}, {"modules.builtin", &p.builtin, false}, {"modules.softdep", &soft, false}, {"modules.alias", &p.aliases, false}} {
		b, err := os.ReadFile(filepath.Join(p.dir, f.name))
		if err != nil && (f.must || !errors.Is(err, fs.ErrNotExist)) {
			return fmt.Errorf("looking for %s: %w", name, err)
		}
		*f.text = string(b)
	}
	p.soft = kmodule.ParseSoftdep(soft)
	return p.load(kmodule.CanonicalName(name), params)
}

func (p *prober) load(name, params string) error {
	file, deps, ok := findDep(p.dep, name)
	if !ok {
		// What is a module in one kernel is part of the image of another.
		if isBuiltin(p.builtin, name) {
			return nil
		}
		return fmt.Errorf("looking for %s among the modules of this lab host: %w", name, unix.ENOENT)
	}
	for i := len(deps) - 1; i >= 0; i-- {
		if err := p.one(deps[i], ""); err != nil {
			return err
		}
	}
	return p.one(file, params)
}

// one loads a module whose dependencies are there.
func (p *prober) one(file, params string) error {
	name := kmodule.CanonicalName(strings.TrimSuffix(filepath.Base(file), ".ko"))
	if p.begun[name] {
		return nil // soft dependencies may form circles
	}
	p.begun[name] = true
	soft := p.soft[name]
	if soft == nil {
		soft = &kmodule.Info{}
	}
	p.try(soft.Pre)
	if err := p.insmod(filepath.Join(p.dir, file), params); err != nil && !errors.Is(err, unix.EEXIST) {
		return err
	}
	p.try(soft.Post)
	return nil
}

// try loads what can be loaded: a soft dependency that is not there, or refuses,
// stops nothing.
func (p *prober) try(names []string) {
	for _, n := range names {
		if _, _, ok := findDep(p.dep, n); ok {
			_ = p.load(n, "")
			continue
		}
		for line := range strings.Lines(p.aliases) {
			if f := strings.Fields(line); len(f) == 3 && f[0] == "alias" && kmodule.CanonicalName(f[1]) == n {
				_ = p.load(kmodule.CanonicalName(f[2]), "")
			}
		}
	}
}
