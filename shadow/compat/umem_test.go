// SPDX-License-Identifier: Apache-2.0

package compat_test

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// registerUmem gives an AF_XDP socket its memory (struct xdp_umem_reg).
func registerUmem(fd int, area []byte, chunk uint32) error {
	reg := unix.XDPUmemReg{Addr: uint64(uintptr(unsafe.Pointer(&area[0]))), Len: uint64(len(area)), Size: chunk}
	_, _, errno := unix.Syscall6(unix.SYS_SETSOCKOPT, uintptr(fd), unix.SOL_XDP, unix.XDP_UMEM_REG, uintptr(unsafe.Pointer(&reg)), unsafe.Sizeof(reg), 0)
	if errno != 0 {
		return errno
	}
	return nil
}
