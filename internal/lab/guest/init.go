// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

const (
	roleInit  = "1"
	roleAgent = "agent"

	systemdPath = "/lib/systemd/systemd"
)

// RunIfGuest takes over and never returns if this process is the first one of a
// lab host, or its agent; otherwise it does nothing. It has to be called before
// anything else in main and TestMain.
//
// It cannot mistake a container for a lab host: there process 1 is not called
// /init with the kernel's mark in its environment and itself on a root file
// system in memory.
func RunIfGuest() {
	switch role := os.Getenv(EnvMark); {
	case role == roleInit && os.Getpid() == 1 && os.Args[0] == InitPath && rootInMemory():
		runInit()
	case role == roleAgent && os.Getppid() == 1 && os.Args[0] == InitPath && rootInMemory():
		runAgent()
	}
}

func rootInMemory() bool {
	var st unix.Statfs_t
	if unix.Statfs("/", &st) != nil {
		return false
	}
	return int64(st.Type) == unix.RAMFS_MAGIC || int64(st.Type) == unix.TMPFS_MAGIC
}

// runInit is process 1. It only starts the agent and collects orphans: a
// process that collects every child cannot also wait for its own ones with
// os/exec, hence two processes.
func runInit() {
	runtime.LockOSThread()
	watchPowerSignals()
	mountAll()
	agent := exec.Command("/proc/self/exe")
	agent.Args = []string{InitPath}
	agent.Env = append(basicEnv(), EnvMark+"="+roleAgent)
	agent.Dir = "/root"
	agent.Stdin, agent.Stdout, agent.Stderr = os.Stdin, os.Stdout, os.Stderr
	if err := agent.Start(); err != nil {
		say("starting the agent: %v", err)
		powerOff()
	}
	if conf, err := readConfig(); err == nil && conf.Systemd {
		// The agent stays its child. What fails here is seen: nobody is process 1.
		say("starting systemd: %v", unix.Exec(systemdPath, []string{systemdPath, "--unit=basic.target"}, basicEnv()))
		powerOff()
	}
	for {
		var ws syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &ws, 0, nil)
		if errors.Is(err, syscall.EINTR) {
			continue
		}
		if err != nil || pid == agent.Process.Pid {
			say("the agent ended: status %d, signal %d, %v", ws.ExitStatus(), ws.Signal(), err)
			powerOff()
		}
	}
}

// watchPowerSignals obeys busybox's poweroff, halt and reboot.
func watchPowerSignals() {
	ch := make(chan os.Signal, 1)
	signal.Notify(ch, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGTERM)
	go func() {
		<-ch
		powerOff()
	}()
}

func powerOff() {
	unix.Sync()
	if err := unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF); err != nil {
		say("powering off: %v", err)
	}
	select {}
}

// say writes to the console, which the outside records.
func say(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "lupatch lab: "+format+"\n", args...)
}

func basicEnv() []string {
	return []string{"PATH=/bin:/sbin:/usr/bin:/usr/sbin", "HOME=/root", "USER=root", "TERM=linux", "LC_ALL=C"}
}

// mountAll mounts what a Debian host has mounted. Only the first three must be
// there; a kernel may lack the others.
func mountAll() {
	mounts := []struct {
		source, target, fs, data string
		needed                   bool
	}{
		{"proc", "/proc", "proc", "", true},
		{"sysfs", "/sys", "sysfs", "", true},
		{"devtmpfs", "/dev", "devtmpfs", "mode=0755", true},
		{"devpts", "/dev/pts", "devpts", "gid=5,mode=620,ptmxmode=666", false},
		{"tmpfs", "/dev/shm", "tmpfs", "mode=1777", false},
		{"tmpfs", "/run", "tmpfs", "mode=0755", false},
		{"tmpfs", "/tmp", "tmpfs", "mode=1777", false},
		{"debugfs", "/sys/kernel/debug", "debugfs", "", false},
		{"tracefs", "/sys/kernel/tracing", "tracefs", "", false},
		{"securityfs", "/sys/kernel/security", "securityfs", "", false},
		{"bpf", "/sys/fs/bpf", "bpf", "", false},
		{"cgroup2", "/sys/fs/cgroup", "cgroup2", "", false},
	}
	for _, m := range mounts {
		_ = os.MkdirAll(m.target, 0o755)
		if err := unix.Mount(m.source, m.target, m.fs, 0, m.data); err != nil && m.needed {
			say("mounting %s: %v", m.target, err)
			powerOff()
		}
	}
}
