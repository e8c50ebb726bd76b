// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"syscall"

	"github.com/coreos/go-systemd/v22/login1"
	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"
)

// inWorker is set in the environment of the process that replaces a driver.
const inWorker = "LUPATCH_WORKER"

// worker is a process that runs this command again where neither a terminal nor a
// connection that breaks off ends it.
type worker struct {
	argv []string
	env  []string
	unit string // the service that it is, if it is one
}

func newWorker(yes bool) (*worker, error) {
	w := &worker{argv: append([]string{"/proc/self/exe"}, os.Args[1:]...), env: append(os.Environ(), inWorker+"=1")}
	if yes {
		w.argv = append(w.argv, "--yes")
	}
	// sd_booted(3)
	if _, err := os.Stat("/run/systemd/system"); err != nil {
		return w, nil
	}
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("looking for this program: %w", err)
	}
	w.argv[0] = self
	w.unit = "lupatch-driver-" + strconv.Itoa(os.Getpid()) + ".service"
	run := []string{"systemd-run", "--unit=" + w.unit, "--description=lupatch replaces a driver", "--pipe", "--wait", "--collect", "--quiet",
		"--service-type=exec", "--same-dir", "--property=OOMScoreAdjust=-1000"}
	for _, e := range w.env {
		if strings.HasPrefix(e, "LUPATCH_") {
			run = append(run, "--setenv="+e)
		}
	}
	w.argv = append(run, w.argv...)
	return w, nil
}

// pass hands a signal on to the process that does the work.
func (w *worker) pass(cmd *exec.Cmd, s os.Signal) error {
	if w.unit == "" {
		return cmd.Process.Signal(s)
	}
	// `systemctl kill` would ask the guardian to end, too.
	out, err := exec.Command("systemctl", "show", "--property=MainPID", "--value", w.unit).Output()
	if err != nil {
		return fmt.Errorf("asking systemd for the process of %s: %w", w.unit, err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(out)))
	if err != nil || pid <= 0 {
		return fmt.Errorf("asking systemd for the process of %s: it says %q", w.unit, out)
	}
	return unix.Kill(pid, s.(syscall.Signal))
}

// work runs this command again in a session of its own, or where systemd runs in a
// service of its own, and waits for it.
func (h *host) work() error {
	w, err := newWorker(h.inTerminal && h.errTerminal)
	if err != nil {
		return err
	}
	cmd := exec.Command(w.argv[0], w.argv[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = nil, os.Stdout, os.Stderr
	cmd.Env = w.env
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, unix.SIGINT, unix.SIGTERM)
	defer signal.Stop(signals)
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("starting the process that replaces the driver: %w", err)
	}
	go func() {
		for s := range signals {
			if err := w.pass(cmd, s); err != nil {
				logrus.Warnf("%v is not passed on to the process that replaces the driver: %v", s, err)
				continue
			}
			logrus.Debugf("%v: passed on to the process that replaces the driver", s)
		}
	}()
	err = cmd.Wait()
	if err == nil {
		return nil
	}
	if code := cmd.ProcessState.ExitCode(); code > 0 {
		return workError{code}
	}
	if w.unit != "" {
		return fmt.Errorf("who waits for %s has died (%w); that goes on, see `lupatch status` and `journalctl -u %s`", w.unit, err, w.unit)
	}
	return fmt.Errorf("the process that replaces the driver has died (%w); the driver of before is brought back by itself, see `lupatch status`", err)
}

// workError has been told by the process that did the work.
type workError struct{ code int }

func (workError) Error() string   { return "" }
func (e workError) ExitCode() int { return e.code }

type nothing struct{}

func (nothing) Close() error { return nil }

// stayAwake keeps the machine from suspending and from being shut down until it is
// closed. A host without logind goes without.
func stayAwake() io.Closer {
	if _, err := os.Stat("/run/systemd/seats"); err != nil {
		return nothing{} // logind does not run, sd_login(3)
	}
	c, err := login1.New()
	if err != nil {
		logrus.Debugf("asking logind to stay awake: %v", err)
		return nothing{}
	}
	defer c.Close()
	lock, err := c.Inhibit("sleep:shutdown", "lupatch", "a driver is being replaced", "block")
	if err != nil {
		logrus.Warnf("nothing keeps this host from suspending while the driver is replaced: %v", err)
		return nothing{}
	}
	return lock
}
