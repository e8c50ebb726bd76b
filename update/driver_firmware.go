// SPDX-License-Identifier: Apache-2.0

package update

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/sirupsen/logrus"

	"github.com/lupatch/lupatch/internal/kmodule"
	"github.com/lupatch/lupatch/kpatch"
)

const (
	// firmwareDir is on a file system in memory (systemd's /run, file-hierarchy(7)).
	firmwareDir = "/run/lupatch/firmware"
	// firmwarePath is where the kernel looks first (firmware/fw_search_path.rst).
	firmwarePath = "/sys/module/firmware_class/parameters/path"
)

// holdFirmware has the kernel find firmware in memory: the disk that it lies on may be
// one that is reached by the device whose driver asks for it. release undoes it.
func holdFirmware(k *kpatch.Kernel, files map[string]string) (release func(), err error) {
	if len(files) == 0 {
		return func() {}, nil
	}
	const doing = "getting firmware into memory"
	before, err := os.ReadFile(k.Path(firmwarePath))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", doing, err)
	}
	release = func() {
		// An empty path is written as a newline.
		if err := k.Sys.WriteFile(k.Path(firmwarePath), []byte(strings.TrimSpace(string(before))+"\n")); err != nil {
			logrus.Warnf("putting the path of firmware back: %v", err)
		}
		os.RemoveAll(k.Path(firmwareDir))
	}
	for name, file := range files {
		// The kernel looks for the name without a suffix of compression as well.
		b, err := kmodule.Read(file)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", doing, err)
		}
		to := filepath.Join(k.Path(firmwareDir), name)
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			return nil, fmt.Errorf("%s: %w", doing, err)
		}
		if err := os.WriteFile(to, b, 0o600); err != nil {
			return nil, fmt.Errorf("%s: %w", doing, err)
		}
	}
	if err := k.Sys.WriteFile(k.Path(firmwarePath), []byte(k.Path(firmwareDir))); err != nil {
		release()
		return nil, fmt.Errorf("%s: %w", doing, err)
	}
	return release, nil
}
