// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"sync"

	"github.com/sirupsen/logrus"

	"github.com/lupatch/lupatch/internal/kallsyms"
)

// vmlinuxes are files for QEMU by the path of the image that they are from. An image is
// read and checked once in a process.
var vmlinuxes struct {
	sync.Mutex
	of map[string]string
}

// image is the file that QEMU boots. Firmware boots only what distributions ship.
func (c *Config) image() string {
	path := c.Kernel.Vmlinuz()
	if !c.Unpacked || c.UEFI != nil {
		return path
	}
	vmlinuxes.Lock()
	defer vmlinuxes.Unlock()
	if file, ok := vmlinuxes.of[path]; ok {
		return file
	}
	if vmlinuxes.of == nil {
		vmlinuxes.of = map[string]string{}
	}
	file := path
	if im, err := kallsyms.Open(path); err != nil {
		// Whether it boots is for QEMU to say.
		logrus.WithError(err).Debug("lab: unpacking the kernel")
	} else if im.File != "" && im.Bootable() {
		file = im.File
	}
	vmlinuxes.of[path] = file
	return file
}
