// SPDX-License-Identifier: Apache-2.0

package update

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/google/renameio/v2"
	"github.com/sirupsen/logrus"

	"github.com/lupatch/lupatch/internal/journal"
	"github.com/lupatch/lupatch/versions"
)

// installDir is below /lib/modules/RELEASE. depmod prefers updates/ to what a kernel
// comes with (depmod.d(5): "search updates built-in" is the default).
const installDir = "updates/lupatch"

// install sees to it that the next boot of this kernel has version v of a driver. What
// was found needs no file: it is where it was.
func (h *Host) install(v *versions.DriverVersion, image []byte) error {
	release, err := h.Kernel.Release()
	if err != nil {
		return err
	}
	dir := filepath.Join(h.Root, "/lib/modules", release, installDir)
	file := filepath.Join(dir, v.Module+".ko")
	old, err := os.ReadFile(file)
	switch {
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("installing the driver: %w", err)
	case v.Number == 0 && err != nil:
		return nil
	case v.Number == 0:
		err = os.Remove(file)
	case err == nil && string(old) == string(image):
		return nil
	default:
		if err = os.MkdirAll(dir, 0o755); err == nil {
			err = renameio.WriteFile(file, image, 0o644)
		}
	}
	if err != nil {
		return fmt.Errorf("installing the driver: %w", err)
	}
	if err := journal.SyncDir(dir); err != nil {
		return err
	}
	return h.bootFiles(release, v.Module)
}

// bootFiles renews what finds modules at boot.
func (h *Host) bootFiles(release, module string) error {
	if h.Root != "" {
		return nil // not this host's
	}
	if err := run("depmod", release); err != nil {
		return err
	}
	initrd := "/boot/initrd.img-" + release
	if _, err := os.Stat(initrd); err != nil {
		return nil
	}
	// Most NICs' drivers are in there, and it is what loads them.
	for _, tool := range [][]string{{"update-initramfs", "-u", "-k", release}, {"dracut", "--force", "--kver", release}} {
		if _, err := exec.LookPath(tool[0]); err == nil {
			return run(tool[0], tool[1:]...)
		}
	}
	logrus.Warnf("%s may have the driver %s as it was, and neither update-initramfs nor dracut is there to renew it", initrd, module)
	return nil
}

func run(tool string, args ...string) error {
	out, err := exec.Command(tool, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("running %s %s: %w: %s", tool, strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}

// installRunning has the next boot get what runs now.
func (h *Host) installRunning(module string) error {
	id, err := h.Kernel.ModuleBuildID(module)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	list, err := h.Drivers.Versions(module)
	if err != nil || len(list) == 0 {
		return err
	}
	v := list[0]
	for _, o := range list {
		if o.BuildID == id {
			v = o
		}
	}
	image, err := h.Drivers.Image(v)
	if err != nil {
		return err
	}
	return h.install(v, image)
}
