// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cilium/ebpf"

	"github.com/lupatch/lupatch/bpf"
	"github.com/lupatch/lupatch/internal/refuse"
	"github.com/lupatch/lupatch/kpatch"
	"github.com/lupatch/lupatch/kpatch/kpatchtest"
	"github.com/lupatch/lupatch/shadow"
)

const debianVersion = "Linux version 6.1.0-47-amd64 (debian-kernel@lists.debian.org) (gcc-12 (Debian 12.2.0-14+deb12u1) 12.2.0, GNU ld (GNU Binutils for Debian) 2.40) #1 SMP PREEMPT_DYNAMIC Debian 6.1.170-3 (2026-04-01)\n"

// healthy gives a Debian host on which everything is as it should be.
func healthy(t *testing.T) *Host {
	fake := kpatchtest.New(t.TempDir())
	h := &Host{
		Kernel:   &kpatch.Kernel{Root: fake.Root, Sys: fake},
		CacheDir: filepath.Join(fake.Root, "cache/that/is/not/there"),
		LookPath: func(name string) (string, error) { return "/usr/bin/" + name, nil },
		Run: func(_ context.Context, name string, args ...string) (string, error) {
			switch name {
			case "gcc-12":
				return "gcc-12 (Debian 12.2.0-14+deb12u1) 12.2.0\nCopyright\n", nil
			case "apt-cache":
				return fmt.Sprintf(" %s | 6.1.176-1 | x\n %s |  6.1.170-3 | y\n", args[1], args[1]), nil
			}
			return "", errors.New("what is " + name)
		},
		Capabilities: func() (uint64, error) { return 1<<41 - 1, nil },
		Features:     func() []bpf.Feature { return []bpf.Feature{{Name: "tracing programs", Since: "5.5"}} },
		Mounted:      func() (bool, error) { return true, nil },
		PossibleCPUs: func() (int, error) { return 4, nil },
		Capturing:    func() (*bpf.Capturing, error) { return &bpf.Capturing{}, nil },
		Shadow:       func() (*shadow.Info, error) { return nil, fs.ErrNotExist },
	}
	h.put(t, "/proc/version", debianVersion)
	h.put(t, "/usr/include/libelf.h", "")
	h.put(t, "/usr/include/openssl/opensslv.h", "")
	return h
}

func (h *Host) put(t *testing.T, path, content string) {
	t.Helper()
	full := h.Kernel.Path(path)
	if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(full, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestHealthy(t *testing.T) {
	r, err := healthy(t).Examine(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if !r.CanApply || !r.CanBuild || r.Release != kpatchtest.Release || len(r.Checks) < 18 {
		t.Errorf("%+v", r)
	}
	for _, c := range r.Checks {
		if c.Status != OK || c.Remedy != "" || c.Detail == "" {
			t.Errorf("%+v", c)
		}
	}
}

func TestFindings(t *testing.T) {
	without := func(cmd string) func(*testing.T, *Host) {
		return func(_ *testing.T, h *Host) {
			h.LookPath = func(name string) (string, error) {
				if name == cmd {
					return "", os.ErrNotExist
				}
				return "/usr/bin/" + name, nil
			}
		}
	}
	output := func(out string) func(*testing.T, *Host) {
		return func(_ *testing.T, h *Host) {
			h.Run = func(context.Context, string, ...string) (string, error) { return out, nil }
		}
	}
	for name, c := range map[string]struct {
		alter          func(*testing.T, *Host)
		check          string
		status         Status
		part           string
		apply, buildOK bool
	}{
		"no livepatch": {func(t *testing.T, h *Host) { os.RemoveAll(h.Kernel.Path("/sys/kernel/livepatch")) }, "livepatch", Fail, "no /sys/kernel/livepatch", false, true},
		"no root":      {func(_ *testing.T, h *Host) { h.Capabilities = func() (uint64, error) { return 1 << 21, nil } }, "privilege", Fail, "CAP_SYS_MODULE (to load modules), CAP_SYS_PTRACE", false, true},
		"modules off":  {func(t *testing.T, h *Host) { h.put(t, "/proc/sys/kernel/modules_disabled", "1\n") }, "module loading", Fail, "next boot", false, true},
		"lockdown": {func(t *testing.T, h *Host) {
			h.put(t, "/sys/kernel/security/lockdown", "none [integrity] confidentiality\n")
		}, "module signatures", Warn, "integrity", true, true},
		"no lockdown": {func(t *testing.T, h *Host) {
			h.put(t, "/sys/kernel/security/lockdown", "[none] integrity confidentiality\n")
		}, "module signatures", OK, "", true, true},
		"policy":          {func(t *testing.T, h *Host) { h.put(t, "/etc/lupatch/policy", "require = both\n") }, "signature policy", Fail, "no minisign key", false, true},
		"policy misspelt": {func(t *testing.T, h *Host) { h.put(t, "/etc/lupatch/policy", "require = booth\n") }, "signature policy", Fail, "booth", false, true},
		"key damaged":     {func(t *testing.T, h *Host) { h.put(t, "/etc/lupatch/trusted.d/x.pem", "x") }, "signature policy", Fail, "x.pem", false, true},
		"policy exposed": {func(t *testing.T, h *Host) {
			h.put(t, "/etc/lupatch/policy", "require = none\n")
			if err := os.Chmod(h.Kernel.Path("/etc/lupatch/policy"), 0o666); err != nil {
				t.Fatal(err)
			}
		}, "policy files", Warn, "0666", true, true},
		"namespace": {func(t *testing.T, h *Host) {
			h.put(t, "/proc/self/ns/x", "")
			if err := os.Symlink("pid:[4026532211]", h.Kernel.Path("/proc/self/ns/pid")); err != nil {
				t.Fatal(err)
			}
		}, "tasks", Fail, "PID namespace", false, true},
		"enforced":     {func(t *testing.T, h *Host) { h.put(t, "/sys/module/module/parameters/sig_enforce", "Y\n") }, "module signatures", Warn, "enforces", true, true},
		"no compiler":  {without("gcc-12"), "compiler", Fail, "gcc-12 12.2.0, which is not installed", true, false},
		"old compiler": {output("gcc-12 (Debian 12.1.0-1) 12.1.0"), "compiler", Fail, "12.1.0", true, false},
		"its rebuild":  {output("gcc-12 (Debian 12.2.0-14) 12.2.0"), "compiler", Warn, "verification", true, true},
		"no flex":      {without("flex"), "flex", Warn, "not installed", true, true},
		"no make":      {without("make"), "make", Fail, "not installed", true, false},
		"no source":    {output(""), "linux-source-6.1", Fail, "no package source", true, false},
		"other source": {output(" linux-source-6.1 | 6.1.176-1 | x 12.2.0\n"), "linux-source-6.1", Warn, "not in version 6.1.170-3", true, true},
		"no cache":     {func(_ *testing.T, h *Host) { h.CacheDir = "" }, "cache", Fail, "home folder", true, false},
		"own kernel":   {func(t *testing.T, h *Host) { h.put(t, "/proc/version", "Linux version 6.9 (me@here) #1\n") }, "packages", Warn, "not one of Debian's", true, true},
		"no BPF": {func(_ *testing.T, h *Host) {
			h.Features = func() []bpf.Feature {
				return []bpf.Feature{{Name: "tracing programs", Since: "5.5", Err: ebpf.ErrNotSupported}}
			}
		}, "tracing programs", Warn, "does not have it", true, true},
		"BPF denied": {func(_ *testing.T, h *Host) {
			h.Features = func() []bpf.Feature {
				return []bpf.Feature{{Name: "tracing programs", Since: "5.5", Err: os.ErrPermission}}
			}
		}, "tracing programs", Warn, "could not be tried", true, true},
		"shadow loaded": {func(_ *testing.T, h *Host) {
			h.Shadow = func() (*shadow.Info, error) {
				return &shadow.Info{Hooks: []shadow.Hook{{Name: "alloc_netdev_mqs", Enabled: true}, {Name: "rtnl_lock"}, {Name: "free_netdev", Enabled: true}}}, nil
			}
		}, "shadow", OK, "it hooks alloc_netdev_mqs, free_netdev; no packet", true, true},
		"other shadow": {func(_ *testing.T, h *Host) {
			h.Shadow = func() (*shadow.Info, error) {
				return nil, refuse.New(refuse.ShadowMissing, "lupatch_shadow", "speaks version 7")
			}
		}, "shadow", Warn, "version 7", true, true},
		"not mounted": {func(_ *testing.T, h *Host) { h.Mounted = func() (bool, error) { return false, nil } }, "BPF file system", Warn, "not mounted", true, true},
	} {
		t.Run(name, func(t *testing.T) {
			h := healthy(t)
			c.alter(t, h)
			r, err := h.Examine(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			found := false
			for _, k := range r.Checks {
				if k.Name != c.check {
					continue
				}
				found = true
				if k.Status != c.status || !strings.Contains(k.Detail, c.part) || (k.Remedy == "") != (c.status == OK) {
					t.Errorf("%+v", k)
				}
			}
			if !found {
				t.Errorf("no check %s", c.check)
			}
			// A changed output of every command says nothing of the purposes.
			if name != "old compiler" && name != "its rebuild" && name != "no source" && name != "other source" && (r.CanApply != c.apply || r.CanBuild != c.buildOK) {
				t.Errorf("can apply %v, can build %v", r.CanApply, r.CanBuild)
			}
		})
	}
}
