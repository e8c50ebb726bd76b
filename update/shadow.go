// SPDX-License-Identifier: Apache-2.0

package update

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/google/renameio/v2"

	"github.com/lupatch/lupatch/internal/manifest"
	"github.com/lupatch/lupatch/internal/refuse"
	"github.com/lupatch/lupatch/kpatch"
	"github.com/lupatch/lupatch/shadow"
)

// modulesLoad has lupatch_shadow loaded at boot (modules-load.d(5)).
const modulesLoad = "/etc/modules-load.d/lupatch_shadow.conf"

func (h *Host) shadowFile(release string) string {
	return filepath.Join(h.Root, "/lib/modules", release, installDir, shadow.Module+".ko")
}

// InstallShadow puts the kernel module lupatch_shadow where the running kernel finds
// it, and has it loaded at boot from now on. It gives the place. It needs root.
func (h *Host) InstallShadow(image []byte) (string, error) {
	const doing = "installing the shadow"
	release, err := h.Kernel.Release()
	if err != nil {
		return "", err
	}
	if name, err := kpatch.ModuleName(image); err != nil || name != shadow.Module {
		return "", refuse.New(refuse.ShadowMissing, name, "the file is not the module %s", shadow.Module)
	}
	m, err := manifest.ForDriver(image, time.Now())
	if err != nil {
		return "", err
	}
	if m.Release != release {
		return "", refuse.New(refuse.WrongRelease, shadow.Module, "it is for kernel %s, this is %s", m.Release, release)
	}
	file := h.shadowFile(release)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return "", fmt.Errorf("%s: %w", doing, err)
	}
	if err := renameio.WriteFile(file, image, 0o644); err != nil {
		return "", fmt.Errorf("%s: %w", doing, err)
	}
	conf := filepath.Join(h.Root, modulesLoad)
	if err := os.MkdirAll(filepath.Dir(conf), 0o755); err != nil {
		return "", fmt.Errorf("%s: %w", doing, err)
	}
	if err := renameio.WriteFile(conf, []byte("# Room for later versions of drivers, see `lupatch shadow --help`.\n"+shadow.Module+"\n"), 0o644); err != nil {
		return "", fmt.Errorf("%s: %w", doing, err)
	}
	return file, h.bootFiles(release, shadow.Module)
}

// needShadow sees to it that the module is loaded: the installed one, if there is none.
func (h *Host) needShadow(ctx context.Context, where string) error {
	if shadow.Loaded() {
		return nil
	}
	release, err := h.Kernel.Release()
	if err != nil {
		return err
	}
	image, err := os.ReadFile(h.shadowFile(release))
	if errors.Is(err, fs.ErrNotExist) {
		return refuse.New(refuse.ShadowMissing, where, "the kernel module %s is neither loaded nor installed", shadow.Module)
	}
	if err != nil {
		return fmt.Errorf("loading the shadow: %w", err)
	}
	return h.Kernel.LoadModule(ctx, image, "")
}
