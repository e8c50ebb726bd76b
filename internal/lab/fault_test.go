// SPDX-License-Identifier: Apache-2.0

package lab_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/lupatch/lupatch/internal/lab"
	"github.com/lupatch/lupatch/internal/lab/labtest"
)

func TestMain(m *testing.M) {
	lab.RunIfGuest()
	if os.Getenv(helperEnv) != "" {
		helper()
	}
	os.Exit(m.Run())
}

// TestLabFaultsAreSeen lets a kernel report a fault, then panic.
func TestLabFaultsAreSeen(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	h := labtest.Boot(t, lab.Config{ConsoleLog: &log}, labtest.Allow("."))
	ctx := labtest.Context(t)
	if f := h.ConsoleFaults(); len(f) > 0 {
		t.Fatalf("a healthy kernel shows %q", f)
	}
	labtest.Sh(t, h, "echo l > /proc/sysrq-trigger")
	if _, err := h.WaitConsole(ctx, regexp.MustCompile(`Call Trace:`)); err != nil {
		t.Fatal(err)
	}
	labtest.Sh(t, h, `echo '<4>WARNING: CPU: 0 PID: 1 at kernel/x.c:1 f+0x1/0x2' > /dev/kmsg`)
	if _, err := h.WaitConsole(ctx, regexp.MustCompile(`WARNING: CPU: 0.*\n`)); err != nil {
		t.Fatal(err)
	}
	if got := patterns(h); !strings.Contains(got, "trace") || !strings.Contains(got, "warning") {
		t.Errorf("faults found: %s", got)
	}
	if len(labtest.Unexpected(h)) == 0 || len(labtest.Unexpected(h, regexp.MustCompile("Call Trace|WARNING"))) != 0 {
		t.Errorf("unexpected ones: %v", labtest.Unexpected(h))
	}
	_, err := h.Sh(ctx, "echo c > /proc/sysrq-trigger")
	var e *lab.Error
	if !errors.Is(err, lab.ErrPanic) || !errors.Is(err, lab.ErrEnded) || !errors.As(err, &e) {
		t.Fatalf("after a panic: %v", err)
	}
	if !strings.Contains(err.Error(), "sysrq triggered crash") || !strings.Contains(e.Console, "Linux version") {
		t.Errorf("the error does not show the console: %v", err)
	}
	if got := patterns(h); !strings.Contains(got, "panic") {
		t.Errorf("faults found: %s", got)
	}
	if _, err := h.WaitConsole(ctx, regexp.MustCompile(`never said`)); !errors.Is(err, lab.ErrEnded) {
		t.Errorf("waiting for an ended host: %v", err)
	}
	if !strings.Contains(log.String(), "sysrq triggered crash") {
		t.Error("the console log misses the panic")
	}
}

func patterns(h *lab.Host) string {
	var names []string
	for _, f := range h.Faults() {
		names = append(names, f.Pattern)
	}
	return strings.Join(names, " ")
}

// TestLabBootFailures: what cannot boot says why, and leaves nothing behind.
func TestLabBootFailures(t *testing.T) {
	init := labtestInit(t)
	ctx := labtest.Context(t)
	dynamic := filepath.Join(t.TempDir(), "dynamic")
	src := dynamic + ".c"
	if err := os.WriteFile(src, []byte("int main(void){return 0;}\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("gcc", "-o", dynamic, src).CombinedOutput(); err != nil {
		t.Fatalf("gcc: %v\n%s", err, out)
	}
	cases := []struct {
		name string
		conf lab.Config
		want string
		is   error
	}{
		{"dynamic init", lab.Config{Init: dynamic}, "dynamically linked", nil},
		{"not a program", lab.Config{Init: src}, "no program", nil},
		{"missing init", lab.Config{Init: "/no/init"}, "no such file", os.ErrNotExist},
		{"unknown release", lab.Config{Init: init, Release: "6.1.0-9999-amd64"}, "source-unavailable", nil},
		{"unknown card", lab.Config{Init: init, NICs: []lab.NIC{{Model: "rtl1"}}}, "e1000", nil},
		{"unknown module", lab.Config{Init: init, Modules: []string{"nosuch"}}, "nosuch", nil},
		{"missing image", lab.Config{Init: init, Disks: []lab.Disk{{Model: "virtio", Image: "/no/disk"}}}, "no such file", os.ErrNotExist},
		{"disk without size", lab.Config{Init: init, Disks: []lab.Disk{{Model: "virtio"}}}, "neither an image nor a size", nil},
		{"little memory", lab.Config{Init: init, Memory: 20}, "20 MiB", nil},
		{"nodes and IOMMU", lab.Config{Init: init, NUMA: true, IOMMU: true}, "two NUMA nodes", nil},
		{"bad device option", lab.Config{Init: init, NICs: []lab.NIC{{Model: "e1000", Options: []string{"nosuch=1"}}}}, "QEMU says", lab.ErrEnded},
		{"timeout", lab.Config{Init: init, BootTimeout: time.Second}, "deadline", context.DeadlineExceeded},
		{"another init", lab.Config{Init: init, Cmdline: []string{"rdinit=/bin/true"}}, "Attempted to kill init", lab.ErrPanic},
		{"a file twice", lab.Config{Init: init, Files: []lab.File{{Path: "/init"}}}, "there already", nil},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			if c.conf.Release == "" {
				c.conf.Release = labtest.Release
			}
			h, err := lab.Boot(ctx, c.conf)
			if err == nil {
				h.Close()
				t.Fatal("it booted")
			}
			if !strings.Contains(err.Error(), c.want) || c.is != nil && !errors.Is(err, c.is) {
				t.Errorf("got: %v", err)
			}
		})
	}
	if left := children(t); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}

func labtestInit(t *testing.T) string {
	labtest.SkipIfShort(t)
	return labtest.Lupatch(t)
}

// children lists QEMU processes whose parent is this process.
func children(t *testing.T) []string {
	t.Helper()
	var out []string
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, s := range stats {
		b, err := os.ReadFile(s)
		if err != nil {
			continue
		}
		after := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
		if after[1] == fmt.Sprint(os.Getpid()) && bytes.Contains(b, []byte("(qemu-")) {
			out = append(out, string(b))
		}
	}
	return out
}

// TestLabEndsWithContext: a cancelled context ends QEMU.
func TestLabEndsWithContext(t *testing.T) {
	t.Parallel()
	init := labtestInit(t)
	ctx, cancel := context.WithCancel(labtest.Context(t))
	defer cancel()
	h, err := lab.Boot(ctx, lab.Config{Init: init, Release: labtest.Release})
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	p, err := h.Start(ctx, lab.Cmd{Argv: []string{"sleep", "1000"}, Timeout: -1})
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	for _, done := range []<-chan struct{}{h.Done(), p.Done()} {
		select {
		case <-done:
		case <-time.After(20 * time.Second):
			t.Fatal("still running")
		}
	}
	if _, err := p.Wait(labtest.Context(t)); err == nil {
		t.Error("the command of a killed host ended without an error")
	}
}

const helperEnv = "LUPATCH_LAB_TEST_HELPER"

// helper boots a host, says where, and waits to be killed.
func helper() {
	h, err := lab.Boot(context.Background(), lab.Config{Init: os.Getenv(helperEnv), Release: labtest.Release})
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println(h.PID())
	select {}
}

// TestLabDiesWithItsProcess: even SIGKILL leaves no QEMU behind.
func TestLabDiesWithItsProcess(t *testing.T) {
	init := labtestInit(t)
	cmd := exec.CommandContext(labtest.Context(t), os.Args[0])
	// Its temporary folder stays behind with SIGKILL: keep it in ours.
	cmd.Env = append(os.Environ(), helperEnv+"="+init, "TMPDIR="+t.TempDir())
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, _ := bufio.NewReader(out).ReadString('\n')
	var pid int
	if _, err := fmt.Sscan(line, &pid); err != nil {
		t.Fatalf("the helper says %q", line)
	}
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 20_000)
	if n != 1 || err != nil {
		t.Errorf("QEMU %d outlived its parent: %d, %v", pid, n, err)
	}
}
