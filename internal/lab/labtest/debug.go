// SPDX-License-Identifier: Apache-2.0

package labtest

import (
	"strings"
	"testing"

	"github.com/lupatch/lupatch/internal/lab"
	"github.com/lupatch/lupatch/internal/lab/debugkernel"
)

// DebugKernel is the debug kernel, to compile modules against; lab.DebugKernel
// boots it. It is not built for a test, which would take longer than all tests
// together: without `make lab-debug-kernel` the test is skipped.
func DebugKernel(t testing.TB) *debugkernel.Kernel {
	t.Helper()
	SkipIfShort(t)
	k, ok := debugkernel.Built(debugkernel.Options{})
	if !ok {
		t.Skip("the debug kernel is not built; `make lab-debug-kernel` does it")
	}
	return k
}

// Lockdep says whether the debug kernel still checks the order of locks, which
// it stops doing at its first report, or at one of KASAN's.
func Lockdep(t testing.TB, h *lab.Host) bool {
	t.Helper()
	for line := range strings.Lines(Sh(t, h, "cat /proc/lockdep_stats")) {
		if f := strings.Fields(line); len(f) == 2 && f[0] == "debug_locks:" {
			return f[1] == "1"
		}
	}
	t.Fatal("/proc/lockdep_stats does not say whether lockdep is on")
	return false
}
