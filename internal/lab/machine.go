// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/lupatch/lupatch/internal/lab/guest"
)

// File descriptors that QEMU inherits: ExtraFiles start at 3.
const (
	consoleFD = 3
	agentFD   = 4
)

// machineArgs is QEMU's command line; threads has TCG run each processor in one.
func machineArgs(c *Config, accel Accel, threads bool, initrd string, images []string) []string {
	accelArg, cpu := "tcg,thread=multi", c.CPUModel
	if !threads {
		accelArg = "tcg,thread=single"
	}
	if accel == KVM {
		accelArg, cpu = "kvm", "host"
	}
	cmdline := append([]string{"console=ttyS0,115200", "panic=-1", guest.EnvMark + "=1"}, c.platformCmdline()...)
	cmdline = append(cmdline, c.Cmdline...)
	args := []string{
		"-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
		"-machine", c.machineType(), "-accel", accelArg, "-cpu", cpu,
		"-smp", strconv.Itoa(c.CPUs), "-m", strconv.Itoa(c.Memory),
		"-kernel", c.image(), "-initrd", initrd, "-append", strings.Join(cmdline, " "),
		"-chardev", fmt.Sprintf("socket,id=console,fd=%d", consoleFD), "-serial", "chardev:console",
		"-chardev", fmt.Sprintf("socket,id=agent,fd=%d", agentFD),
	}
	args = append(args, c.platformArgs()...)
	if c.SerialAgent {
		args = append(args, "-serial", "chardev:agent")
	} else {
		// Far from where cards are expected: their slots count from 2 up.
		args = append(args, "-device", "virtio-serial-pci,addr=1e"+c.agentPlace(), "-device", "virtserialport,chardev=agent,name="+guest.VirtioPort)
	}
	if c.firmware != nil {
		args = append(args, c.firmware.args(c.UEFI.SecureBoot)...)
	}
	return append(args, c.deviceArgs(images)...)
}

// machine is a running QEMU.
type machine struct {
	cmd     *exec.Cmd
	agent   *os.File      // the guest agent's end
	done    chan struct{} // closed when QEMU has ended and its console is read
	said    bytes.Buffer  // QEMU's own messages; to be read after done
	exitErr error         // after done
}

// startMachine starts QEMU. It is killed when ctx ends, and by the kernel when
// this process dies in whatever way.
func startMachine(ctx context.Context, emu *emulator, args []string, con *console) (*machine, error) {
	conOurs, conTheirs, err := socketPair("console")
	if err != nil {
		return nil, err
	}
	agentOurs, agentTheirs, err := socketPair("agent")
	if err != nil {
		conOurs.Close()
		conTheirs.Close()
		return nil, err
	}
	m := &machine{cmd: exec.CommandContext(ctx, emu.path, append(slices.Clone(emu.args), args...)...), agent: agentOurs, done: make(chan struct{})}
	m.cmd.ExtraFiles = []*os.File{conTheirs, agentTheirs}
	m.cmd.Stderr = &m.said
	m.cmd.Stdout = &m.said
	// A group of its own: Ctrl-C in a terminal is for us to handle.
	m.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}

	started := make(chan error, 1)
	go func() {
		// Pdeathsig is sent when the thread that started the child ends, not
		// the process (prctl(2)): the thread has to live as long as the child.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := m.cmd.Start()
		conTheirs.Close()
		agentTheirs.Close()
		started <- err
		if err != nil {
			return
		}
		consoleRead := make(chan struct{})
		go func() {
			defer close(consoleRead)
			_, _ = io.Copy(con, conOurs)
			con.end()
			conOurs.Close()
		}()
		m.exitErr = m.cmd.Wait()
		<-consoleRead
		close(m.done)
	}()
	if err := <-started; err != nil {
		conOurs.Close()
		agentOurs.Close()
		return nil, fmt.Errorf("starting QEMU: %w", err)
	}
	return m, nil
}

func socketPair(name string) (ours, theirs *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("making the %s's socket: %w", name, err)
	}
	// Only our end: the poller needs it, and QEMU sets its own.
	if err := unix.SetNonblock(fds[0], true); err != nil {
		unix.Close(fds[0])
		unix.Close(fds[1])
		return nil, nil, fmt.Errorf("making the %s's socket: %w", name, err)
	}
	return os.NewFile(uintptr(fds[0]), name), os.NewFile(uintptr(fds[1]), name), nil
}

// kill ends QEMU and waits for it.
func (m *machine) kill() {
	_ = m.cmd.Process.Kill()
	<-m.done
}

// complaint is what QEMU itself said, for errors; after done.
func (m *machine) complaint() string {
	s := strings.TrimSpace(m.said.String())
	if s == "" {
		return ""
	}
	return "; QEMU says: " + s
}
