// SPDX-License-Identifier: Apache-2.0

// Package bpf holds the programs that lupatch runs in the kernel, in C beside the
// Go that loads them, and what it knows of the kernel's BPF: whether it is
// there. It is the one place that uses gobpf, of which only the parts without
// cgo are taken.
package bpf

import (
	"errors"
	"fmt"
	"os"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/features"
	"github.com/iovisor/gobpf/pkg/bpffs"
	"github.com/iovisor/gobpf/pkg/cpupossible"
)

// Mount is where the BPF file system belongs.
const Mount = bpffs.BPFFSPath

// BTF is the type information of the running kernel (since Linux 5.4, with
// CONFIG_DEBUG_INFO_BTF).
const BTF = "/sys/kernel/btf/vmlinux"

// Feature is one ability of the kernel.
type Feature struct {
	Name string
	// Since is the kernel that brought it.
	Since string
	// Err is nil if it is there; ebpf.ErrNotSupported is in its chain if the
	// kernel was tried and does not have it; any other error means that it could
	// not be found out, for want of privilege for instance.
	Err error
}

// Missing says that the kernel certainly does not have it.
func (f Feature) Missing() bool { return errors.Is(f.Err, ebpf.ErrNotSupported) }

// PossibleCPUs is the number of CPUs the kernel made room for: a per-CPU map has
// that many values for a key, however many CPUs are online.
func PossibleCPUs() (int, error) {
	cpus, err := cpupossible.Get()
	if err != nil {
		return 0, fmt.Errorf("reading the possible CPUs: %w", err)
	}
	return len(cpus), nil
}

// Mounted says whether the BPF file system is mounted where it belongs. Without
// BPF the directory is missing, which counts as not mounted.
func Mounted() (bool, error) {
	if _, err := os.Stat(Mount); errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	ok, err := bpffs.IsMounted()
	if err != nil {
		return false, fmt.Errorf("looking for the BPF file system: %w", err)
	}
	return ok, nil
}

// Features tries what lupatch's programs need: each is loaded for a moment and
// thrown away, which needs CAP_BPF and CAP_PERFMON.
func Features() []Feature {
	btf := error(nil)
	if _, err := os.Stat(BTF); errors.Is(err, os.ErrNotExist) {
		btf = fmt.Errorf("there is no %s: %w", BTF, ebpf.ErrNotSupported)
	} else if err != nil {
		btf = fmt.Errorf("looking for %s: %w", BTF, err)
	}
	return []Feature{
		{"kernel type information (BTF)", "5.4", btf},
		{"tracing programs", "5.5", features.HaveProgramType(ebpf.Tracing)},
		{"a task iterator with stacks", "5.9", tryTasks()},
		{"ring buffers", "5.8", features.HaveMapType(ebpf.RingBuf)},
	}
}

func tryTasks() error {
	it, err := OpenTasks()
	if err != nil {
		return err
	}
	return it.Close()
}
