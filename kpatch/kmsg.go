// SPDX-License-Identifier: Apache-2.0

package kpatch

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// recordMax is more than the longest record of /dev/kmsg: a read with a smaller
// buffer fails (kernel/printk: CONSOLE_EXT_LOG_MAX and PRINTKRB_RECORD_MAX).
const recordMax = 16 << 10

// Record is one message of the kernel's log (Documentation/ABI/testing/dev-kmsg).
type Record struct {
	// Facility is 0 for what the kernel itself says; what a process writes to
	// /dev/kmsg never has that.
	Facility int
	// Level is 0 for an emergency to 7 for debugging.
	Level int
	// Seq numbers all records since boot.
	Seq uint64
	// Time is since boot.
	Time time.Duration
	// Caller is "T" and a thread's or "C" and a CPU's number; empty without
	// CONFIG_PRINTK_CALLER. Since Linux 5.1.
	Caller string
	// Text may have several lines.
	Text string
}

// Log reads what the kernel says from the moment it was opened on. A message is
// complete in it when the system call that caused it returns.
type Log struct {
	fd   int
	next uint64 // the number that the next record should have; 0 if unknown
}

// OpenLog opens /dev/kmsg at its end. It needs CAP_SYSLOG where
// kernel.dmesg_restrict is set.
func (k *Kernel) OpenLog() (*Log, error) {
	// Not through os.File: the runtime would wait where EAGAIN is the end.
	fd, err := unix.Open(k.Path("/dev/kmsg"), unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("opening the kernel's log: %w", err)
	}
	if _, err := unix.Seek(fd, 0, unix.SEEK_END); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("opening the kernel's log: %w", err)
	}
	return &Log{fd: fd}, nil
}

// Read gives the records since the last call, without waiting, and how many of
// them were overwritten before they could be read.
func (l *Log) Read() (list []Record, lost uint64, err error) {
	buf := make([]byte, recordMax)
	for {
		n, err := unix.Read(l.fd, buf)
		switch {
		case err == unix.EPIPE:
			// Older records were overwritten; what is left comes next. Where
			// nothing was read before, their number is not known.
			if l.next == 0 {
				lost++
			}
			continue
		case err == unix.EINTR:
			continue
		case err == unix.EAGAIN || err == nil && n == 0:
			return list, lost, nil
		case err != nil:
			return list, lost, fmt.Errorf("reading the kernel's log: %w", err)
		}
		for _, r := range parseRecords(buf[:n]) {
			if l.next != 0 && r.Seq > l.next {
				lost += r.Seq - l.next
			}
			l.next = r.Seq + 1
			list = append(list, r)
		}
	}
}

// Close ends the reading.
func (l *Log) Close() error { return unix.Close(l.fd) }

// lines gives only the texts, and of those what can be had.
func (l *Log) lines() []string {
	if l == nil {
		return nil
	}
	list, _, _ := l.Read()
	var text []string
	for _, r := range list {
		text = append(text, r.Text)
	}
	return text
}

// parseRecords reads records "priority,sequence,microseconds,flags[,caller=ID];
// message", each with lines of its own for the properties, which begin with a
// blank. What is no record is left out.
func parseRecords(b []byte) []Record {
	var list []Record
	for line := range bytes.Lines(b) {
		if line[0] == ' ' {
			continue
		}
		if r, err := ParseRecord(string(bytes.TrimRight(line, "\n"))); err == nil {
			list = append(list, r)
		}
	}
	return list
}

// ParseRecord reads the first line of one record, as /dev/kmsg gives it.
func ParseRecord(line string) (Record, error) {
	bad := errors.New("no record of the kernel's log")
	head, text, ok := strings.Cut(line, ";")
	f := strings.Split(head, ",")
	if !ok || len(f) < 4 {
		return Record{}, bad
	}
	priority, err := strconv.ParseUint(f[0], 10, 31)
	if err != nil {
		return Record{}, bad
	}
	seq, err := strconv.ParseUint(f[1], 10, 64)
	if err != nil {
		return Record{}, bad
	}
	usec, err := strconv.ParseInt(f[2], 10, 53)
	if err != nil || usec < 0 {
		return Record{}, bad
	}
	// syslog(2): three bits of level below the facility.
	r := Record{Facility: int(priority >> 3), Level: int(priority & 7), Seq: seq, Time: time.Duration(usec) * time.Microsecond, Text: unescape(text)}
	for _, x := range f[4:] {
		if c, ok := strings.CutPrefix(x, "caller="); ok {
			r.Caller = c
		}
	}
	return r, nil
}

// unescape turns "\x0a" into what it stands for: the kernel writes every byte so
// that is not printable ASCII.
func unescape(s string) string {
	if !strings.Contains(s, `\x`) {
		return strings.ToValidUTF8(s, "?")
	}
	var out []byte
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) && s[i+1] == 'x' {
			if n, err := strconv.ParseUint(s[i+2:i+4], 16, 8); err == nil {
				out = append(out, byte(n))
				i += 3
				continue
			}
		}
		out = append(out, s[i])
	}
	return strings.ToValidUTF8(string(out), "?")
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
