// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// openAgentPort opens the port that the configuration names.
func openAgentPort(conf *Config, release string) (*os.File, error) {
	if !conf.Virtio {
		return openPort(SerialPort)
	}
	for _, m := range []string{"virtio_pci", "virtio_console"} {
		if err := modprobe(release, m, ""); err != nil {
			return nil, err
		}
	}
	return openVirtioPort(VirtioPort)
}

// virtioDeadline is for the driver, which makes ports after it has been loaded.
const virtioDeadline = 20 * time.Second

// openVirtioPort waits for a port of virtio-serial to appear. Names are in sysfs
// only; /dev/virtio-ports is udev's.
func openVirtioPort(name string) (*os.File, error) {
	deadline := time.Now().Add(virtioDeadline)
	for {
		found, _ := filepath.Glob("/sys/class/virtio-ports/*/name")
		for _, f := range found {
			text, _ := os.ReadFile(f)
			if strings.TrimSpace(string(text)) != name {
				continue
			}
			port, err := os.OpenFile(filepath.Join("/dev", filepath.Base(filepath.Dir(f))), os.O_RDWR, 0)
			if err != nil {
				return nil, fmt.Errorf("opening the agent's virtio port: %w", err)
			}
			return port, nil
		}
		if time.Now().After(deadline) {
			return nil, fmt.Errorf("waiting for the virtio port %s: %w", name, os.ErrDeadlineExceeded)
		}
		// sysfs gives no notice of a new folder; this takes a few rounds at most.
		time.Sleep(5 * time.Millisecond)
	}
}

// openPort opens a serial port for bytes as they are: no echo, no line editing,
// no flow control characters, no signals.
func openPort(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, fmt.Errorf("opening the agent's serial port: %w", err)
	}
	t, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("setting up %s: %w", path, err)
	}
	t.Iflag = unix.IGNBRK
	t.Oflag = 0
	t.Lflag = 0
	t.Cflag = unix.CS8 | unix.CREAD | unix.CLOCAL | unix.B115200
	t.Cc[unix.VMIN], t.Cc[unix.VTIME] = 1, 0
	if err := unix.IoctlSetTermios(int(f.Fd()), unix.TCSETS, t); err != nil {
		f.Close()
		return nil, fmt.Errorf("setting up %s: %w", path, err)
	}
	return f, nil
}

// drain waits until the port has sent everything (tcdrain).
func drain(f *os.File) { _ = unix.IoctlSetInt(int(f.Fd()), unix.TCSBRK, 1) }

// openPTY makes a pseudo terminal.
func openPTY() (master, slave *os.File, err error) {
	master, err = os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("opening a terminal: %w", err)
	}
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0)
	}
	if err == nil {
		slave, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	}
	if err != nil {
		master.Close()
		return nil, nil, fmt.Errorf("opening a terminal: %w", err)
	}
	return master, slave, nil
}

func setSize(f *os.File, rows, cols uint16) error {
	return unix.IoctlSetWinsize(int(f.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: rows, Col: cols})
}
