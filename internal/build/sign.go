// SPDX-License-Identifier: Apache-2.0

package build

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/lupatch/lupatch/internal/refuse"
)

// sign appends a module signature with the kernel's own sign-file, if a key
// was given.
func (j *job) sign(ctx context.Context, ko []byte) ([]byte, error) {
	if j.opt.SignKey == "" {
		return ko, nil
	}
	tool := filepath.Join(j.tree.Obj, "scripts", "sign-file")
	if _, err := os.Stat(tool); err != nil {
		return nil, refuse.New(refuse.SourceUnavailable, "sign-file", "the kernel's build tools for %s do not hold scripts/sign-file", j.tree.Release)
	}
	hash := j.tree.Config["CONFIG_MODULE_SIG_HASH"]
	if hash == "" {
		hash = "sha256"
	}
	dir, err := os.MkdirTemp("", "lupatch-sign-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "update.ko")
	if err := os.WriteFile(path, ko, 0o600); err != nil {
		return nil, err
	}
	out, err := exec.CommandContext(ctx, tool, hash, j.opt.SignKey, j.opt.SignCert, path).CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("signing the update: %s", strings.TrimSpace(string(out)))
	}
	return os.ReadFile(path)
}
