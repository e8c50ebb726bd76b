// SPDX-License-Identifier: Apache-2.0

package debugkernel

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"

	"github.com/google/renameio/v2"

	"github.com/lupatch/lupatch/internal/deb"
)

// maker runs the kernel's makefiles.
type maker struct {
	src, obj string
	progress deb.Progress
}

// configure makes .config of config, and insists that every line of it has come
// into force: an option that is renamed or lacks what it depends on is otherwise
// left out without a word.
func (m *maker) configure(ctx context.Context) error {
	if err := os.MkdirAll(m.obj, 0o755); err != nil {
		return err
	}
	fragment := filepath.Join(m.obj, "fragment.config")
	dotConfig := filepath.Join(m.obj, ".config")
	if err := renameio.WriteFile(fragment, []byte(config), 0o644); err != nil {
		return err
	}
	if _, err := os.Stat(dotConfig); err != nil {
		if err := m.run(ctx, "configuring the debug kernel", "KCONFIG_ALLCONFIG="+fragment, "allnoconfig"); err != nil {
			return err
		}
	}
	have, err := os.ReadFile(dotConfig)
	if err != nil {
		return err
	}
	if lost := missing(config, string(have)); len(lost) > 0 {
		return fmt.Errorf("these options did not come into force: %s", strings.Join(lost, ", "))
	}
	return nil
}

// missing lists the settings of a fragment that a configuration does not have.
func missing(fragment, config string) (lost []string) {
	have := map[string]bool{}
	for line := range strings.Lines(config) {
		have[strings.TrimSpace(line)] = true
	}
	for line := range strings.Lines(fragment) {
		line = strings.TrimSpace(line)
		name, value, ok := strings.Cut(line, "=")
		if !ok || strings.HasPrefix(line, "#") {
			continue
		}
		if value == "n" {
			if have[name+"=y"] || have[name+"=m"] {
				lost = append(lost, line)
			}
		} else if !have[line] {
			lost = append(lost, line)
		}
	}
	return lost
}

// run makes targets. What make says is only shown if it fails.
func (m *maker) run(ctx context.Context, stage string, args ...string) error {
	args = append([]string{"-C", m.src, "O=" + m.obj, "ARCH=x86", "CC=" + compiler, fmt.Sprintf("-j%d", runtime.GOMAXPROCS(0))}, args...)
	cmd := exec.CommandContext(ctx, "make", args...)
	cmd.Env = []string{"LC_ALL=C", "PATH=" + os.Getenv("PATH") + ":/usr/sbin:/sbin", "HOME=" + os.Getenv("HOME"),
		"KBUILD_BUILD_USER=lupatch", "KBUILD_BUILD_HOST=lab", "KBUILD_BUILD_TIMESTAMP=" + sourceVersion}
	// make's children have to end with it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	var log bytes.Buffer
	cmd.Stderr = &log
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("starting make: %w", err)
	}
	n := int64(0)
	for s := bufio.NewScanner(out); s.Scan(); {
		if n++; m.progress != nil {
			m.progress(stage, n, 0)
		}
	}
	if err := cmd.Wait(); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		lines := strings.Split(strings.TrimSpace(log.String()), "\n")
		return fmt.Errorf("%s: %w: %s", stage, err, strings.Join(lines[max(0, len(lines)-10):], "; "))
	}
	return nil
}
