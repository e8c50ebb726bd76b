// SPDX-License-Identifier: Apache-2.0

// Package doctor looks at a host and says whether lupatch can build updates on
// it and apply them, and what is missing. It changes nothing.
package doctor

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/lupatch/lupatch/bpf"
	"github.com/lupatch/lupatch/kpatch"
	"github.com/lupatch/lupatch/shadow"
)

// Status of a check.
type Status string

const (
	// OK: as it should be.
	OK Status = "ok"
	// Warn: it will do, or only some things will not.
	Warn Status = "warn"
	// Fail: the purpose cannot be served.
	Fail Status = "fail"
)

// Purpose is what a check is for.
type Purpose string

const (
	// Apply: to apply updates and take them back.
	Apply Purpose = "apply"
	// Build: to build them.
	Build Purpose = "build"
	// Watch: to predict and explain transitions with BPF; nothing depends on it.
	Watch Purpose = "watch"
)

// Check is one finding.
type Check struct {
	Name    string  `json:"name"`
	Purpose Purpose `json:"purpose"`
	Status  Status  `json:"status"`
	Detail  string  `json:"detail"`
	// Remedy is what to do about it; empty if the status is OK.
	Remedy string `json:"remedy,omitempty"`
}

// Report is all of them.
type Report struct {
	Release  string  `json:"release"`
	CanApply bool    `json:"can_apply"`
	CanBuild bool    `json:"can_build"`
	Checks   []Check `json:"checks"`
}

// Able says whether the host serves a purpose.
func (r *Report) Able(p Purpose) bool {
	for _, c := range r.Checks {
		if c.Purpose == p && c.Status == Fail {
			return false
		}
	}
	return true
}

func (r *Report) add(p Purpose, name string, s Status, detail, remedy string) {
	if s == OK {
		remedy = ""
	}
	r.Checks = append(r.Checks, Check{name, p, s, detail, remedy})
}

// Host is what the doctor looks at.
type Host struct {
	Kernel *kpatch.Kernel
	// CacheDir is lupatch's cache; it need not exist.
	CacheDir string
	// Run gives the standard output of a command.
	Run func(ctx context.Context, name string, args ...string) (string, error)
	// LookPath finds a command.
	LookPath func(name string) (string, error)
	// Capabilities are the effective ones of this process, as a bit set.
	Capabilities func() (uint64, error)
	// Features, Mounted and PossibleCPUs are those of package bpf.
	Features     func() []bpf.Feature
	Mounted      func() (bool, error)
	PossibleCPUs func() (int, error)
	// Capturing is the state of what `lupatch watch` starts.
	Capturing func() (*bpf.Capturing, error)
	// Shadow asks lupatch_shadow; fs.ErrNotExist if it is not loaded.
	Shadow func() (*shadow.Info, error)
}

// This gives the host this process runs on.
func This(kernel *kpatch.Kernel) *Host {
	h := &Host{Kernel: kernel, Run: run, LookPath: exec.LookPath, Capabilities: capabilities,
		Features: bpf.Features, Mounted: bpf.Mounted, PossibleCPUs: bpf.PossibleCPUs, Capturing: bpf.CaptureState, Shadow: askShadow}
	if dir, err := os.UserCacheDir(); err == nil {
		h.CacheDir = filepath.Join(dir, "lupatch")
	}
	return h
}

// Examine makes all checks. What cannot be found out is a finding too: there is
// no error but that of ctx.
func (h *Host) Examine(ctx context.Context) (*Report, error) {
	r := new(Report)
	var err error
	if r.Release, err = h.Kernel.Release(); err != nil {
		r.add(Apply, "kernel", Fail, err.Error(), "mount /proc")
	}
	h.apply(ctx, r)
	h.build(ctx, r)
	h.watch(r)
	r.CanApply, r.CanBuild = r.Able(Apply), r.Able(Build)
	return r, ctx.Err()
}

func run(ctx context.Context, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	out, err := cmd.Output()
	return string(out), err
}

func capabilities() (uint64, error) {
	head := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&head, &data[0]); err != nil {
		return 0, err
	}
	return uint64(data[1].Effective)<<32 | uint64(data[0].Effective), nil
}
