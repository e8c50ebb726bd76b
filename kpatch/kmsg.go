// SPDX-License-Identifier: Apache-2.0

package kpatch

import (
	"bytes"
	"strings"

	"golang.org/x/sys/unix"
)

// recordMax is more than the longest record of /dev/kmsg: a read with a smaller
// buffer fails (kernel/printk: CONSOLE_EXT_LOG_MAX and PRINTKRB_RECORD_MAX).
const recordMax = 16 << 10

// kernelLog reads what the kernel says from now on. Printing is complete in the
// ring buffer when the system call that caused it returns, so nothing has to be
// awaited. Without access to /dev/kmsg it reads nothing.
type kernelLog struct{ fd int }

func (k *Kernel) openLog() *kernelLog {
	// Not through os.File: the runtime would wait where EAGAIN is the end.
	fd, err := unix.Open(k.Path("/dev/kmsg"), unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return &kernelLog{fd: -1}
	}
	if _, err := unix.Seek(fd, 0, unix.SEEK_END); err != nil {
		unix.Close(fd)
		return &kernelLog{fd: -1}
	}
	return &kernelLog{fd: fd}
}

// lines gives the messages since it was opened or last asked.
func (l *kernelLog) lines() []string {
	if l.fd < 0 {
		return nil
	}
	var text []string
	buf := make([]byte, recordMax)
	for {
		n, err := unix.Read(l.fd, buf)
		if err == unix.EPIPE || err == unix.EINTR {
			continue // older records were overwritten; what is left comes next
		}
		if err != nil || n <= 0 {
			return text
		}
		text = append(text, parseRecords(buf[:n])...)
	}
}

func (l *kernelLog) close() {
	if l.fd >= 0 {
		unix.Close(l.fd)
	}
}

// parseRecords takes the messages out of records "level,sequence,time,flags;
// message", each with lines of its own for the properties, which begin with a
// blank (Documentation/ABI/testing/dev-kmsg).
func parseRecords(b []byte) []string {
	var text []string
	for line := range bytes.Lines(b) {
		if line[0] == ' ' {
			continue
		}
		if _, msg, ok := bytes.Cut(bytes.TrimRight(line, "\n"), []byte{';'}); ok {
			text = append(text, strings.ToValidUTF8(string(msg), "?"))
		}
	}
	return text
}

// about picks the lines that belong to the loading of a module: those that name
// it and those of the subsystems that take part in it.
func about(lines []string, module string) []string {
	var out []string
	for _, l := range lines {
		if strings.Contains(l, module) {
			out = append(out, l)
			continue
		}
		for _, p := range []string{"livepatch:", "module:", "x86/modules:", "Lockdown:", "Loading of ", "ftrace:", "BPF:", "failed to validate module"} {
			if strings.HasPrefix(l, p) {
				out = append(out, l)
				break
			}
		}
	}
	return out
}
