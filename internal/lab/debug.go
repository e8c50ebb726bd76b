// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"time"

	"github.com/lupatch/lupatch/internal/lab/debugkernel"
)

// DebugKernel as Config.Release boots the kernel of package debugkernel: with
// KASAN, lockdep and other checks that distributions do not turn on.
const DebugKernel = "debug"

// What that kernel takes: its shadow memory, and some three times the time.
const (
	debugMemory      = 2048 // MiB
	debugBootTimeout = 5 * time.Minute
)

// debugCmdline keeps a slow machine from being taken for a faulty one, and lets
// KASAN go on after its first report. ACPI's interrupt routing is interpreted
// code, which takes 10 to 30 s for each probe of a card under KASAN; without it
// the kernel takes the lines that the firmware has set, which the newer board's
// does not.
func (c *Config) debugCmdline() []string {
	words := []string{"mitigations=off", "kasan_multi_shot", "rcupdate.rcu_cpu_stall_timeout=290",
		"nosoftlockup", "workqueue.watchdog_thresh=0", "tsc=reliable"}
	if !c.IOMMU {
		words = append(words, "acpi=noirq")
	}
	return words
}

func (c *Config) setDebugDefaults() {
	if c.Release != DebugKernel || c.Kernel != nil {
		return
	}
	if c.Memory == 0 {
		c.Memory = debugMemory
	}
	if c.BootTimeout == 0 {
		c.BootTimeout = debugBootTimeout
	}
	// Before the caller's words: the later one of a kind counts.
	c.Cmdline = append(c.debugCmdline(), c.Cmdline...)
}

func (c *Config) findDebugKernel(ctx context.Context) error {
	k, err := debugkernel.Open(ctx, debugkernel.Options{Debs: c.Cache, Progress: c.Progress})
	if err != nil {
		return err
	}
	c.Kernel = &k.Kernel
	return nil
}
