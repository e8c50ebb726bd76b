// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"os"
	"regexp"
	"sync"
	"time"

	"github.com/sirupsen/logrus"
)

// kvmProbeTimeout is how long a kernel may take to its first line under KVM;
// one second is usual. There are machines whose /dev/kvm opens but never runs a
// guest.
const kvmProbeTimeout = 8 * time.Second

var firstLine = regexp.MustCompile(`Linux version `)

// kvmFlags says whether the processor itself offers virtualization. Without it
// /dev/kvm is not even opened.
func kvmFlags(cpuinfo string) bool {
	return regexp.MustCompile(`(?m)^flags\s*:.*\b(vmx|svm)\b`).MatchString(cpuinfo)
}

var kvmProbe struct {
	sync.Mutex
	done, works bool
}

// chooseAccel resolves Automatic. The answer of the probe is kept for the life
// of the process.
func chooseAccel(ctx context.Context, c *Config, initrd string) Accel {
	if c.Accel != Automatic {
		return c.Accel
	}
	cpuinfo, err := os.ReadFile("/proc/cpuinfo")
	if err != nil || !kvmFlags(string(cpuinfo)) {
		return TCG
	}
	kvmProbe.Lock()
	defer kvmProbe.Unlock()
	if !kvmProbe.done && ctx.Err() == nil {
		kvmProbe.works, kvmProbe.done = probeKVM(ctx, c, initrd), true
	}
	if kvmProbe.works {
		return KVM
	}
	return TCG
}

// probeKVM boots the kernel until its first line.
func probeKVM(ctx context.Context, c *Config, initrd string) bool {
	ctx, cancel := context.WithTimeout(ctx, kvmProbeTimeout)
	defer cancel()
	emu, err := findEmulator(ctx, c, KVM)
	if err != nil {
		return false
	}
	con := newConsole(nil)
	m, err := startMachine(ctx, emu, machineArgs(&Config{
		Kernel: c.Kernel, Memory: c.Memory, CPUs: 1, CPUModel: c.CPUModel, Cmdline: []string{"earlyprintk=ttyS0"},
	}, KVM, emu.coherent, initrd, nil), con)
	if err != nil {
		return false
	}
	defer m.kill()
	defer m.agent.Close()
	_, err = con.wait(ctx, m.done, firstLine)
	logrus.Debugf("lab: KVM probe: %v", err)
	return err == nil
}
