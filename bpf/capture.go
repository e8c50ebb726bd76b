// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"errors"
	"fmt"
	"os"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/features"
	"github.com/cilium/ebpf/link"
	"github.com/cilium/ebpf/rlimit"
	"golang.org/x/sys/unix"
)

// Hook is a function of the network core at which a program of the capture runs.
// None is on the way of a packet, none belongs to a driver.
type Hook struct {
	// Function is its name.
	Function string `json:"function"`
	// At is "entry" or "return".
	At string `json:"at"`
	// Program is the name of the program.
	Program string `json:"program"`
	// Optional marks a function that not every kernel has (see capture.bpf.c).
	Optional bool `json:"optional,omitempty"`
}

// Hooks lists them in the order in which they are attached: what deletes comes
// before what adds, and the entry of a request before its return. All of them
// exist on 6.1 and 6.12, except for netdev_get_by_name (since 6.4).
var Hooks = []Hook{
	{"netdev_unregister_kobject", "entry", "capture_unregister", false},
	{"netdev_register_kobject", "return", "capture_register", false},
	{"__dev_change_net_namespace", "return", "capture_move", false},
	{"__dev_get_by_name", "return", "capture_device", false},
	{"netdev_get_by_name", "return", "capture_tracked", true},
	{"dev_ioctl", "return", "capture_end", false},
	{"dev_ioctl", "entry", "capture_begin", false},
}

// captureSpec leaves out the programs whose function this kernel does not have.
func captureSpec(follow bool) (*ebpf.CollectionSpec, []Hook, error) {
	if _, err := os.Stat(BTF); errors.Is(err, os.ErrNotExist) {
		return nil, nil, fmt.Errorf("there is no %s: %w", BTF, ebpf.ErrNotSupported)
	}
	kernel, err := btf.LoadKernelSpec()
	if err != nil {
		return nil, nil, kind(err)
	}
	spec, err := loadCapture()
	if err != nil {
		return nil, nil, err
	}
	if follow {
		err = spec.Variables["follow"].Set(uint32(1))
	} else {
		// Nobody reads events of programs that stay.
		spec.Maps["events"].MaxEntries = uint32(max(os.Getpagesize(), 4096))
	}
	if err == nil && !mayReadUser() {
		err = spec.Variables["may_read_user"].Set(uint32(0))
	}
	if err != nil {
		return nil, nil, err
	}
	var hooks []Hook
	for _, h := range Hooks {
		var fn *btf.Func
		if err := kernel.TypeByName(h.Function, &fn); err == nil {
			hooks = append(hooks, h)
		} else if h.Optional && errors.Is(err, btf.ErrNotFound) {
			delete(spec.Programs, h.Program)
		} else {
			return nil, nil, fmt.Errorf("looking for %s: %w", h.Function, kind(err))
		}
	}
	return spec, hooks, nil
}

// mayReadUser says whether programs can read a caller's memory. Under
// lockdown=confidentiality the kernel refuses them its own memory only, but then
// the library takes it for one before 5.5 and puts bpf_probe_read in the place of
// bpf_probe_read_user, which is refused.
func mayReadUser() bool {
	return features.HaveProgramHelper(ebpf.Kprobe, asm.FnProbeReadKernel) == nil
}

// attachCapture loads the programs and gives their links, in the order of Hooks.
// The caller closes all of them.
func attachCapture(follow bool) (c *ebpf.Collection, hooks []Hook, links []link.Link, err error) {
	defer func() {
		if err != nil {
			closeLinks(links)
			if c != nil {
				c.Close()
			}
			c, links = nil, nil
		}
	}()
	// Without effect since 5.11, where maps are charged to the control group.
	if err := rlimit.RemoveMemlock(); err != nil {
		return nil, nil, nil, err
	}
	spec, hooks, err := captureSpec(follow)
	if err != nil {
		return nil, nil, nil, err
	}
	if c, err = ebpf.NewCollection(spec); err != nil {
		return nil, nil, nil, kind(err)
	}
	for _, h := range hooks {
		l, err := link.AttachTracing(link.TracingOptions{Program: c.Programs[h.Program]})
		if err != nil {
			return c, nil, links, fmt.Errorf("attaching to %s: %w", h.Function, kindOfAttach(err))
		}
		links = append(links, l)
	}
	return c, hooks, links, nil
}

// kindOfAttach: a function without ftrace site is ENOTSUPP or EINVAL, one that
// somebody else redirects is EBUSY or EAGAIN (register_fentry,
// kernel/bpf/trampoline.c), which is neither.
func kindOfAttach(err error) error {
	const enotsupp = unix.Errno(524) // include/linux/errno.h, not for user space
	if errors.Is(err, enotsupp) {
		return fmt.Errorf("%w: %w", ebpf.ErrNotSupported, err)
	}
	return kind(err)
}

func closeLinks(links []link.Link) {
	for _, l := range links {
		l.Close()
	}
}
