// SPDX-License-Identifier: Apache-2.0

// Command xdp takes a network device as programs that bypass the network stack do,
// until its standard input ends: for tests of what then is refused.
//
//	xdp driver DEV   a program that passes every packet, attached to the driver
//	xdp socket DEV   an AF_XDP socket bound to the first queue, that copies
package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "xdp:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 2 {
		return errors.New("usage: xdp driver|socket DEV")
	}
	dev, err := net.InterfaceByName(args[1])
	if err != nil {
		return err
	}
	var c io.Closer
	if args[0] == "driver" {
		c, err = attach(dev.Index)
	} else {
		c, err = bind(uint32(dev.Index))
	}
	if err != nil {
		return err
	}
	defer c.Close()
	fmt.Println("ready")
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

func attach(index int) (io.Closer, error) {
	const pass = 2 // XDP_PASS of include/uapi/linux/bpf.h
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.XDP, License: "GPL", Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, pass), asm.Return()}})
	if err != nil {
		return nil, fmt.Errorf("loading the program: %w", err)
	}
	defer p.Close()
	l, err := link.AttachXDP(link.XDPOptions{Program: p, Interface: index, Flags: link.XDPDriverMode})
	if err != nil {
		return nil, fmt.Errorf("attaching the program: %w", err)
	}
	return l, nil
}

type socket int

func (s socket) Close() error { return unix.Close(int(s)) }

// bind makes a socket as Documentation/networking/af_xdp.rst describes it, with the
// least of everything.
func bind(index uint32) (io.Closer, error) {
	const frame, frames, ring = 4096, 8, 8
	fd, err := unix.Socket(unix.AF_XDP, unix.SOCK_RAW, 0)
	if err != nil {
		return nil, fmt.Errorf("opening an AF_XDP socket: %w", err)
	}
	memory, err := unix.Mmap(-1, 0, frame*frames, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return nil, err
	}
	area := unix.XDPUmemReg{Addr: uint64(uintptr(unsafe.Pointer(&memory[0]))), Len: frame * frames, Size: frame}
	if _, _, no := unix.Syscall6(unix.SYS_SETSOCKOPT, uintptr(fd), unix.SOL_XDP, unix.XDP_UMEM_REG, uintptr(unsafe.Pointer(&area)), unsafe.Sizeof(area), 0); no != 0 {
		return nil, fmt.Errorf("registering its memory: %w", no)
	}
	for _, o := range []int{unix.XDP_UMEM_FILL_RING, unix.XDP_UMEM_COMPLETION_RING, unix.XDP_RX_RING} {
		if err := unix.SetsockoptInt(fd, unix.SOL_XDP, o, ring); err != nil {
			return nil, fmt.Errorf("making its rings: %w", err)
		}
	}
	if err := unix.Bind(fd, &unix.SockaddrXDP{Flags: unix.XDP_COPY, Ifindex: index}); err != nil {
		return nil, fmt.Errorf("binding it: %w", err)
	}
	return socket(fd), nil
}
