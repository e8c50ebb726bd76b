// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/lupatch/lupatch/internal/deb"
	"github.com/lupatch/lupatch/internal/kmodule"
)

// Defaults of Config.
const (
	DefaultMemory = 512 // MiB
	// DefaultCPUs is two because a livepatch transition on one CPU shows less.
	DefaultCPUs = 2
	// DefaultCPUModel takes as long to boot as qemu64 and max do. On it Debian's
	// 6.1 turns retpolines and return thunks on: code that updates have to meet.
	DefaultCPUModel = "Nehalem"
	// DefaultBootTimeout is ten times what a boot takes on two idle cores.
	DefaultBootTimeout = 90 * time.Second
)

// Accel says how the guest's instructions are executed.
type Accel string

// Accelerators. Automatic takes KVM only where it is known to work.
const (
	Automatic Accel = ""
	TCG       Accel = "tcg"
	KVM       Accel = "kvm"
)

// Config describes a lab host. The zero value boots the default kernel with
// nothing but its processors, memory and serial ports.
type Config struct {
	// Kernel is what to boot. If nil, Release is looked up with Cache.
	Kernel *deb.Kernel
	// Release such as 6.1.0-47-amd64; empty means DefaultKernel. DebugKernel is
	// the lab's own, which is built if it has not been.
	Release string
	// Cache is where packages come from; nil means the user's.
	Cache *deb.Cache
	// Init is the program that becomes the guest's first process and /bin/lupatch:
	// a static executable that calls RunIfGuest. Empty means this program.
	Init string

	Memory   int    // MiB
	CPUs     int    // virtual processors
	CPUModel string // as in `qemu-system-x86_64 -cpu help`
	Accel    Accel
	// QEMU is the emulator's path. If empty, the installed one is taken, or a
	// later one from the backports if TCG in the installed one is not sound.
	QEMU string

	// Unpacked boots the vmlinux that is in the kernel's image, if it can be entered
	// as QEMU does (CONFIG_PVH). The image's decompressor is half of a boot under TCG
	// (XZ: 5 of 10 s). It is also what places the kernel at random: without it
	// addresses are as linked, as with nokaslr. With UEFI it does nothing.
	Unpacked bool

	// UEFI, if not nil, is the firmware that the host boots through.
	UEFI *UEFI

	// NUMA makes two nodes of the memory and of the processors, of which there
	// have to be two or more. All network cards are on the second one: the kernel
	// then probes their driver in a worker thread, not in the task that loads it.
	NUMA bool
	// IOMMU puts the network cards behind an emulated Intel IOMMU and turns it on.
	IOMMU bool

	NICs   []NIC
	Disks  []Disk
	Sounds []Sound

	// Modules are loaded at boot, after the drivers of the devices; Available
	// are only put into the guest's /lib/modules. Both bring what they depend on.
	Modules, Available []string
	// NoDrivers leaves the drivers of the devices unloaded, though available.
	NoDrivers bool
	// SerialAgent keeps the agent on the second serial port, some 60 kB/s into
	// the guest. Otherwise it is on a virtio port, ten times as fast, if the
	// kernel has the modules for one, which are then loaded.
	SerialAgent bool
	// ManualNetwork leaves interfaces without address and down.
	ManualNetwork bool
	// Packages are Debian packages whose programs are put into the guest, in
	// place of busybox's of the same name, with the libraries they are linked
	// with. Their services are not started, and no script of theirs is run.
	Packages []string
	// Systemd is process 1, with udev, journald, D-Bus and logind of Debian's
	// packages. Boot waits until they are up.
	Systemd bool
	// Files are there from the start.
	Files []File
	// Cmdline are more words for the kernel command line.
	Cmdline []string

	// BootTimeout bounds the time until the agent answers.
	BootTimeout time.Duration
	// ConsoleLog gets the kernel's console as it comes, if not nil.
	ConsoleLog io.Writer
	// Progress is told of downloads and of the boot, if not nil.
	Progress deb.Progress

	tree     *kmodule.Tree // of the kernel, once prepared
	firmware *firmware     // of UEFI, once prepared
}

// NIC is a network card.
type NIC struct {
	Model string // a key of NICModels
	// Options are more properties of the QEMU device, such as "mq=on".
	Options []string
}

// Disk is a disk with a raw image.
type Disk struct {
	Model string // a key of DiskModels
	// Image is the path of the file; empty means a temporary one of Size bytes.
	Image    string
	Size     int64
	ReadOnly bool
}

// Sound is a sound card.
type Sound struct {
	Model string // a key of SoundModels
	// WAV is a file that records what is played; empty means silence.
	WAV string
}

// File is put into the guest.
type File struct {
	Path string // in the guest
	// Host is the file on this machine; if empty, Data is the content.
	Host string
	Data []byte
	Mode os.FileMode // 0: that of Host, or 0644
}

// ParseFile reads HOST:GUEST, as the command line spells it.
func ParseFile(spec string) (File, error) {
	host, guest, ok := strings.Cut(spec, ":")
	if !ok || host == "" || !strings.HasPrefix(guest, "/") {
		return File{}, fmt.Errorf("%q is not of the form HOSTFILE:/GUEST/FILE", spec)
	}
	return File{Host: host, Path: guest}, nil
}

func (c *Config) setDefaults() {
	c.setDebugDefaults()
	if c.Systemd {
		c.Packages = append(slices.Clone(c.Packages), servicePackages...)
	}
	if c.Memory == 0 {
		c.Memory = DefaultMemory
	}
	if c.CPUs == 0 {
		c.CPUs = DefaultCPUs
	}
	if c.CPUModel == "" {
		c.CPUModel = DefaultCPUModel
	}
	if c.BootTimeout == 0 {
		c.BootTimeout = DefaultBootTimeout
		if c.UEFI != nil {
			c.BootTimeout = uefiBootTimeout
		}
	}
}

func (c *Config) check() error {
	if c.Memory < 128 || c.Memory > 1<<20 {
		return fmt.Errorf("checking the lab host: %d MiB of memory (128 or more are needed)", c.Memory)
	}
	if c.CPUs < 1 || c.CPUs > 64 {
		return fmt.Errorf("checking the lab host: %d processors (1 to 64 are possible)", c.CPUs)
	}
	if c.NUMA && (c.IOMMU || c.UEFI != nil || c.CPUs < 2) {
		return errors.New("checking the lab host: two NUMA nodes need two processors, and go neither with an IOMMU nor with UEFI")
	}
	if len(c.NICs) > maxNICs {
		return fmt.Errorf("checking the lab host: %d network cards (at most %d are possible)", len(c.NICs), maxNICs)
	}
	for _, n := range c.NICs {
		if err := known("network card", NICModels, n.Model); err != nil {
			return err
		}
	}
	for _, d := range c.Disks {
		if err := known("disk", DiskModels, d.Model); err != nil {
			return err
		}
		if d.Image == "" && d.Size <= 0 {
			return errors.New("checking the lab host: a disk has neither an image nor a size")
		}
	}
	for _, s := range c.Sounds {
		if err := known("sound card", SoundModels, s.Model); err != nil {
			return err
		}
	}
	for _, w := range c.Cmdline {
		if strings.ContainsAny(w, "\n\x00") {
			return fmt.Errorf("checking the lab host: %q cannot be on the kernel command line", w)
		}
	}
	switch c.Accel {
	case Automatic, TCG, KVM:
		return nil
	}
	return fmt.Errorf("checking the lab host: accelerator %q is neither tcg nor kvm", c.Accel)
}
