// SPDX-License-Identifier: Apache-2.0

package kpatch

import (
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// Real is the kernel this process runs on.
type Real struct{}

// InitModule is init_module(2). The memory is handed over, not a file
// descriptor (finit_module), because a later generation of an update is renamed
// in memory; the kernel makes no other difference for uncompressed modules,
// except that the LoadPin security module wants files. It cannot be interrupted.
func (Real) InitModule(image []byte, params string) error {
	return unix.InitModule(image, params)
}

// DeleteModule is delete_module(2).
func (Real) DeleteModule(name string) error {
	return unix.DeleteModule(name, unix.O_NONBLOCK)
}

// WriteFile writes an attribute that exists already.
func (Real) WriteFile(path string, data []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	if _, err := f.Write(data); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}

// OnCPU runs f on cpu. The thread keeps its place if the old one cannot be
// restored, and is then not used again.
func (Real) OnCPU(cpu int, f func()) error {
	errc := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		var before, only unix.CPUSet
		if err := unix.SchedGetaffinity(0, &before); err != nil {
			errc <- fmt.Errorf("reading the CPU affinity: %w", err)
			return
		}
		only.Set(cpu)
		if err := unix.SchedSetaffinity(0, &only); err != nil {
			errc <- fmt.Errorf("moving to CPU %d: %w", cpu, err)
			return
		}
		f()
		// A thread that ends locked is destroyed, which is what should happen
		// to one that is stuck on a CPU.
		if unix.SchedSetaffinity(0, &before) == nil {
			runtime.UnlockOSThread()
		}
		errc <- nil
	}()
	return <-errc
}
