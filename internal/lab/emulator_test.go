// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/lupatch/lupatch/internal/deb"
)

// TestFindEmulator: whatever the host has installed, processors have a thread each
// only in a QEMU that is known to be sound, and the one that is found runs.
func TestFindEmulator(t *testing.T) {
	if testing.Short() {
		t.Skip("may download a package")
	}
	cache, err := deb.New("")
	if err != nil {
		t.Fatal(err)
	}
	e, err := findEmulator(t.Context(), &Config{Cache: cache}, TCG)
	if err != nil {
		t.Fatal(err)
	}
	version, err := versionOf(t.Context(), e.path)
	if err != nil {
		t.Fatal(err)
	}
	if sound := deb.CompareVersions("1:"+version, coherentQEMU) >= 0; sound != e.coherent {
		t.Errorf("QEMU %s has threads: %v", version, e.coherent)
	}
	for _, threads := range []bool{true, false} {
		args := machineArgs(&Config{Kernel: &deb.Kernel{}}, TCG, threads, "", nil)
		if got := slices.Contains(args, "tcg,thread=multi"); got != threads {
			t.Errorf("threads %v: %q", threads, args)
		}
	}
}

// TestOldEmulator: an old QEMU on a host without backports, and none at all.
func TestOldEmulator(t *testing.T) {
	bin := t.TempDir()
	if err := os.WriteFile(filepath.Join(bin, qemuProgram), []byte("#!/bin/sh\necho 'QEMU emulator version 7.2.18 (Debian)'\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin+":/bin")
	cache, err := deb.New(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	cache.HostRoot = t.TempDir() // no Debian
	for _, accel := range []Accel{KVM, TCG} {
		forget(t)
		e, err := findEmulator(t.Context(), &Config{Cache: cache}, accel)
		if err != nil || e.coherent || !strings.HasPrefix(e.path, bin) {
			t.Errorf("%s: %+v, %v", accel, e, err)
		}
	}
	forget(t)
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := findEmulator(gone, &Config{Cache: cache}, TCG); err == nil {
		t.Error("an emulator though the caller has given up")
	}
	t.Setenv("PATH", t.TempDir())
	forget(t)
	if _, err := findEmulator(t.Context(), &Config{Cache: cache}, TCG); err != ErrNoQEMU {
		t.Errorf("no QEMU: %v", err)
	}
	if e, err := findEmulator(t.Context(), &Config{QEMU: "/a/qemu"}, TCG); err != nil || e.path != "/a/qemu" {
		t.Errorf("named: %+v, %v", e, err)
	}
}

// forget what was found, and what is found during the test.
func forget(t *testing.T) {
	clear := func() {
		emulators.Lock()
		emulators.installed, emulators.fetched = nil, nil
		emulators.Unlock()
	}
	clear()
	t.Cleanup(clear)
}
