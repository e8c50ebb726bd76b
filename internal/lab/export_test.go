// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"os/exec"
	"time"

	"github.com/lupatch/lupatch/internal/deb"
)

// AskEmulator has the QEMU that lab hosts run in answer a question.
func AskEmulator(ctx context.Context, args ...string) ([]byte, error) {
	cache, err := deb.New("")
	if err != nil {
		return nil, err
	}
	e, err := findEmulator(ctx, &Config{Cache: cache}, TCG)
	if err != nil {
		return nil, err
	}
	return exec.CommandContext(ctx, e.path, append(e.args, args...)...).CombinedOutput()
}

// SetEarlyStall is for tests that do not want to wait.
func SetEarlyStall(d time.Duration) (restore func()) {
	was := earlyStall
	earlyStall = d
	return func() { earlyStall = was }
}
