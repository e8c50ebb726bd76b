// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"runtime"
	"testing"

	"github.com/cilium/ebpf"
)

func TestPossibleCPUs(t *testing.T) {
	n, err := PossibleCPUs()
	if err != nil {
		t.Fatal(err)
	}
	if n < runtime.NumCPU() {
		t.Fatalf("%d possible CPUs, %d in use", n, runtime.NumCPU())
	}
}

// The mount table and statfs agree.
func TestMounted(t *testing.T) {
	got, err := Mounted()
	if err != nil {
		t.Fatal(err)
	}
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	if want := bytes.Contains(mounts, []byte(" "+Mount+" bpf ")); got != want {
		t.Fatalf("mounted %v, the mount table says %v", got, want)
	}
}

func TestMissing(t *testing.T) {
	for err, want := range map[error]bool{
		nil:                  false,
		os.ErrPermission:     false,
		ebpf.ErrNotSupported: true,
		fmt.Errorf("trying: %w", ebpf.ErrNotSupported): true,
	} {
		if (Feature{Err: err}).Missing() != want {
			t.Errorf("%v: want %v", err, want)
		}
	}
	if errors.Is(os.ErrPermission, ebpf.ErrNotSupported) {
		t.Error("lack of privilege counts as lack of support")
	}
}
