// SPDX-License-Identifier: Apache-2.0

package stream

import (
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// retransmits is how many segments this end's kernel has sent again (TCP_INFO,
// tcpi_total_retrans, tcp(7)); false if the connection is closed or is not TCP.
func retransmits(conn net.Conn) (n int64, ok bool) {
	sc, is := conn.(syscall.Conn)
	if !is {
		return 0, false
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return 0, false
	}
	err = raw.Control(func(fd uintptr) {
		if info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO); err == nil {
			n, ok = int64(info.Total_retrans), true
		}
	})
	return n, ok && err == nil
}
