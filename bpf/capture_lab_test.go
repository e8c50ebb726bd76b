// SPDX-License-Identifier: Apache-2.0

package bpf_test

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/lupatch/lupatch/bpf"
	"github.com/lupatch/lupatch/internal/lab"
	"github.com/lupatch/lupatch/internal/lab/labtest"
	"github.com/lupatch/lupatch/internal/sample"
)

// captured is what the program in the guest reports.
type captured struct {
	Err                     string
	Twice, Stopped, Partial bool
	State                   bpf.Capturing
	Requests                []bpf.Request
	Known                   []bpf.Known
	Programs, Links         int
	NetNS                   uint32
}

// probeCapture is one process in the guest: none of them outlives what it does.
func probeCapture(args []string) {
	must := func(err error) {
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	number := func(s string) int {
		n, err := strconv.ParseInt(s, 0, 64)
		must(err)
		return int(n)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	var c captured
	switch args[0] {
	case "start":
		err := bpf.StartCapture()
		c.Twice = errors.Is(err, bpf.ErrCapturing)
		if !c.Twice {
			must(err)
		}
	case "stop":
		err := bpf.StopCapture(ctx)
		c.Stopped = errors.Is(err, bpf.ErrNotCapturing)
		if !c.Stopped {
			must(err)
		}
	case "mii": // INTERFACE REGISTER VALUE
		var inline [24]byte
		binary.NativeEndian.PutUint16(inline[2:], uint16(number(args[2])))
		binary.NativeEndian.PutUint16(inline[4:], uint16(number(args[3])))
		must(ioctl(args[1], unix.SIOCSMIIREG, inline))
	case "hwtstamp": // INTERFACE TX RX
		config := [3]int32{0, int32(number(args[2])), int32(number(args[3]))}
		must(pointing(args[1], unix.SIOCSHWTSTAMP, unsafe.Pointer(&config)))
	case "private": // INTERFACE COMMAND WORD...: as old bridge ioctls are made
		words := make([]uint64, 32) // as much as is captured
		for i, w := range args[3:] {
			words[i] = uint64(number(w))
		}
		must(pointing(args[1], uintptr(number(args[2])), unsafe.Pointer(&words[0])))
	case "namespace": // prints the process in it
		cmd := exec.Command("sleep", "1000")
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
		must(cmd.Start())
		fmt.Println(cmd.Process.Pid)
		return
	case "nobody": // COMMAND, without privilege
		must(unix.Setuid(65534))
		must(unix.Exec(args[1], args[1:], os.Environ()))
	case "follow": // until it has seen N
		n := number(args[1])
		must(bpf.Follow(ctx, func(r bpf.Request) {
			must(json.NewEncoder(os.Stdout).Encode(r))
			if n--; n == 0 {
				cancel()
			}
		}))
		return
	case "read":
		var err error
		c.Requests, c.Known, err = bpf.Captured()
		c.Stopped = errors.Is(err, bpf.ErrNotCapturing)
		if !c.Stopped {
			must(err)
		}
	}
	state, err := bpf.CaptureState()
	must(err)
	c.State = *state
	c.Programs, c.Links = count()
	must(json.NewEncoder(os.Stdout).Encode(c))
}

func ioctl(name string, cmd uintptr, inline [24]byte) error {
	var ifr [40]byte
	copy(ifr[:15], name)
	copy(ifr[16:], inline[:])
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	if err != nil {
		return err
	}
	defer unix.Close(s)
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(s), cmd, uintptr(unsafe.Pointer(&ifr))); errno != 0 {
		return fmt.Errorf("%s: ioctl %#x: %w", name, cmd, errno)
	}
	return nil
}

func pointing(name string, cmd uintptr, p unsafe.Pointer) error {
	var inline [24]byte
	*(*unsafe.Pointer)(unsafe.Pointer(&inline)) = p
	return ioctl(name, cmd, inline)
}

func probe(t *testing.T, h *lab.Host, what string) (c captured) {
	t.Helper()
	r, err := h.Run(labtest.Context(t), lab.Cmd{Argv: []string{"/root/probe"}, Env: []string{inGuest + "=capture " + what}})
	if err != nil || r.Code != 0 {
		t.Fatalf("%s: %v: %s", what, err, said(r))
	}
	if what == "namespace" {
		return captured{Err: strings.TrimSpace(string(r.Stdout))}
	}
	if err := json.Unmarshal(r.Stdout, &c); err != nil {
		t.Fatal(err)
	}
	return c
}

// fails is a request that the kernel does not take.
func fails(t *testing.T, h *lab.Host, what string) {
	t.Helper()
	r, err := h.Run(labtest.Context(t), lab.Cmd{Argv: []string{"/root/probe"}, Env: []string{inGuest + "=capture " + what}})
	if err != nil || r.Code != 1 || !strings.Contains(string(r.Stderr), "ioctl ") {
		t.Fatalf("%s: %v: %s", what, err, said(r))
	}
}

func of(list []bpf.Request, name string, cmd, setting uint32) *bpf.Request {
	for i, r := range list {
		if r.Interface == name && r.Command == cmd && r.Setting == setting {
			return &list[i]
		}
	}
	return nil
}

// attached are the functions that ftrace calls something at.
func attached(t *testing.T, h *lab.Host) []string {
	t.Helper()
	out := labtest.Sh(t, h, "sed -n 's/^\\([^ \\t]*\\) .*/\\1/p' /sys/kernel/tracing/enabled_functions | sort -u")
	if out == "" {
		return nil
	}
	return strings.Split(out, "\n")
}

func TestCaptureOfKernel(t *testing.T) { testCapture(t, labtest.Release) }
func TestCaptureOfLaterKernel(t *testing.T) {
	sample.OnlyThorough(t, "TestCaptureOfKernel has the same on 6.1")
	testCapture(t, labtest.Backport(t))
}

func testCapture(t *testing.T, release string) {
	t.Parallel()
	labtest.SkipIfShort(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	h := labtest.Boot(t, lab.Config{Release: release, NICs: []lab.NIC{{Model: "e1000"}, {Model: "e1000e"}}, Modules: []string{"bridge"},
		Disks: []lab.Disk{{Model: "virtio", Size: 1 << 20}}, Sounds: []lab.Sound{{Model: "AC97"}},
		Cmdline: []string{"lockdown=integrity"}, Files: []lab.File{{Path: "/root/probe", Host: self, Mode: 0o755}}})
	if got := attached(t, h); got != nil {
		t.Fatalf("at boot attached to %s", got)
	}
	first := probe(t, h, "read")
	if first.State.On || !first.Stopped {
		t.Errorf("before it was started: %+v", first)
	}
	c := probe(t, h, "start")
	if !c.State.On || len(c.State.Missing) > 0 || c.State.NoData || len(c.State.Attached) < len(bpf.Hooks)-1 {
		t.Errorf("started: %+v", c.State)
	}
	var want []string
	for _, hook := range c.State.Attached {
		want = append(want, hook.Function)
	}
	slices.Sort(want)
	// Configuration alone: ftrace calls these and nothing else.
	if got, want := attached(t, h), slices.Compact(want); !slices.Equal(got, want) {
		t.Errorf("attached to %s, want %s", got, want)
	}
	if n := len(c.State.Attached); c.Programs-first.Programs != n || c.Links-first.Links != n {
		t.Errorf("%d programs and %d links more, %d attached", c.Programs-first.Programs, c.Links-first.Links, n)
	}
	if c := probe(t, h, "start"); !c.Twice {
		t.Error("it could be started twice")
	}

	// The latest value wins; what fails is not kept.
	before := time.Now()
	probe(t, h, "mii eth0 18 0x1234")
	probe(t, h, "mii eth0 18 0x4321")
	probe(t, h, "mii eth0 16 0x5555")
	probe(t, h, "hwtstamp eth1 1 1")
	probe(t, h, "hwtstamp eth1 1 1")
	fails(t, h, "hwtstamp eth0 1 1")
	fails(t, h, "mii eth9 18 1")
	// BRCTL_SET_AGEING_TIME of a bridge, whose private ioctl it is.
	labtest.Sh(t, h, "ip link add br0 type bridge")
	probe(t, h, "private br0 0x89f0 11 12000")
	c = probe(t, h, "read")
	if len(c.Requests) != 4 {
		t.Errorf("%d requests: %+v", len(c.Requests), c.Requests)
	}
	if r := of(c.Requests, "eth0", unix.SIOCSMIIREG, 18<<16); r == nil || r.Count != 2 || !r.Varied || binary.NativeEndian.Uint16(r.Inline[4:]) != 0x4321 || r.Comm != "probe" || r.UID != 0 || r.Data != nil {
		t.Errorf("MII register 18: %+v", r)
	} else if d := r.At.Sub(before).Abs(); d > time.Minute {
		t.Errorf("%v from now", d)
	}
	if r := of(c.Requests, "eth0", unix.SIOCSMIIREG, 16<<16); r == nil || r.Count != 1 || r.Varied {
		t.Errorf("MII register 16: %+v", r)
	}
	if r := of(c.Requests, "eth1", unix.SIOCSHWTSTAMP, 0); r == nil || r.Count != 2 || r.Varied || len(r.Data) != 12 || binary.NativeEndian.Uint32(r.Data[4:]) != 1 {
		t.Errorf("hwtstamp: %+v", r)
	}
	if r := of(c.Requests, "br0", 0x89f0, 0); r == nil || len(r.Data) != 256 || binary.NativeEndian.Uint64(r.Data[8:]) != 12000 {
		t.Errorf("private ioctl: %+v", r)
	}
	if got := labtest.Sh(t, h, "cat /sys/class/net/br0/bridge/ageing_time"); got != "12000" {
		t.Errorf("the private ioctl had another meaning: %s", got)
	}
	var dated int
	for _, k := range c.Known {
		if !k.Registered.IsZero() {
			dated++
		}
	}
	if dated != 1 { // br0
		t.Errorf("known: %+v", c.Known)
	}

	// It follows a device into another namespace and to another name.
	pid := probe(t, h, "namespace").Err
	labtest.Sh(t, h, "ip link set eth1 netns "+pid)
	inode := labtest.Sh(t, h, "readlink /proc/"+pid+"/ns/net | tr -dc 0-9")
	c = probe(t, h, "read")
	if r := of(c.Requests, "eth1", unix.SIOCSHWTSTAMP, 0); r == nil || fmt.Sprint(r.NetNS) != inode {
		t.Errorf("in the namespace %s: %+v", inode, r)
	}

	byCommand(t, h, inode)
	probe(t, h, "mii eth0 18 1")

	// Nothing holds the driver, and what is gone is forgotten.
	labtest.Sh(t, h, "rmmod e1000 && insmod $(find /lib/modules -name 'e1000.ko*') && ip link del br0")
	c = probe(t, h, "read")
	if len(c.Requests) != 0 || len(c.Known) == 0 {
		t.Errorf("after the driver was replaced: %+v", c.Requests)
	}
	probe(t, h, "mii eth0 18 1")
	if c = probe(t, h, "read"); of(c.Requests, "eth0", unix.SIOCSMIIREG, 18<<16) == nil {
		t.Errorf("the new driver's device: %+v", c.Requests)
	}

	follow(t, h)

	if got := labtest.Sh(t, h, "lupatch watch --stop"); !strings.HasPrefix(got, "nothing is watched") {
		t.Errorf("stopped: %s", got)
	}
	if c = probe(t, h, "read"); c.State.On || c.Programs != first.Programs || c.Links != first.Links {
		t.Errorf("stopped: %+v, %d programs and %d links, before %d and %d", c.State, c.Programs, c.Links, first.Programs, first.Links)
	}
	if got := attached(t, h); got != nil {
		t.Errorf("afterwards attached to %s", got)
	}
	labtest.Sh(t, h, "test ! -e /sys/fs/bpf/lupatch")
	if c = probe(t, h, "stop"); !c.Stopped {
		t.Error("it could be stopped twice")
	}
}

// byCommand looks at the same with lupatch itself, another process. Columns count,
// not their widths.
func byCommand(t *testing.T, h *lab.Host, inode string) {
	t.Helper()
	says := func(cmd string, want ...string) {
		t.Helper()
		got := labtest.Sh(t, h, cmd)
		for _, w := range want {
			if !strings.Contains(strings.Join(strings.Fields(got), " "), w) {
				t.Errorf("%s: no %q in\n%s", cmd, w, got)
			}
		}
	}
	says("lupatch watch", "watched: netdev_unregister_kobject (entry), ", "dev_ioctl (entry)",
		"eth0 MII register 18 of PHY 0 00001200214300000000000000000000… 2, differing probe (",
		"eth1 hardware time stamping ", "br0 private ioctl 0 (0x89f0) ")
	says("lupatch instances", "e1000 0 pci 0000:00:02.0 net eth0 up - 2 requests yes",
		"e1000e 0 pci 0000:00:03.0 net eth1 in "+inode+" down - 1 request yes",
		"virtio_blk 0 virtio virtio0 block vda - - - no: there is no shadow for the class block yet",
		"snd_intel8x0 0 pci 0000:00:05.0 sound card0 - - - no: there is no shadow for the class sound yet")
	says("lupatch instances serial", "built in", "no: its driver is part of the kernel image")
	says("lupatch doctor", "watch capture ok attached to ", "dev_ioctl (entry, capture_begin); no packet passes there")
	says("lupatch watch --start", "eth1 hardware time stamping ") // nothing changes
	// Without privilege there is less to see, and nothing to begin.
	as := "env '" + inGuest + "=capture nobody /bin/lupatch "
	says(as+"instances e1000' /root/probe", "e1000 0 pci 0000:00:02.0 net eth0 up - - yes")
	says(as+"watch --start' /root/probe 2>&1 || test $? = 3", "refused (not-permitted)", "remedy: run it as root")
	// Whoever takes a pin away takes a program away; starting again mends it.
	labtest.Sh(t, h, "rm /sys/fs/bpf/lupatch/capture/at_capture_device")
	says("lupatch doctor", "watch capture warn not attached to __dev_get_by_name (return, capture_device)")
	if got := labtest.Sh(t, h, "lupatch watch --start"); strings.Contains(got, "not watched") || !strings.Contains(got, "nothing was captured") {
		t.Errorf("%s", got)
	}
	if got := labtest.Sh(t, h, "lupatch instances e1000e"); strings.Contains(got, "eth0") {
		t.Errorf("the other driver's devices: %s", got)
	}
}

// follow sees failures as well, and leaves nothing.
func follow(t *testing.T, h *lab.Host) {
	t.Helper()
	before := probe(t, h, "read")
	p, err := h.Start(labtest.Context(t), lab.Cmd{Argv: []string{"/root/probe"}, Env: []string{inGuest + "=capture follow 2"}})
	if err != nil {
		t.Fatal(err)
	}
	for probe(t, h, "read").Links == before.Links { // it has begun
		select {
		case <-p.Done():
			t.Fatal("it has ended")
		default:
		}
	}
	for probe(t, h, "read").Links < before.Links*2 {
		time.Sleep(10 * time.Millisecond)
	}
	fails(t, h, "mii eth9 18 2")
	probe(t, h, "mii eth0 18 2")
	r, err := p.Wait(labtest.Context(t))
	if err != nil || r.Code != 0 {
		t.Fatalf("%v: %+v", err, r)
	}
	var got []bpf.Request
	for line := range strings.Lines(string(r.Stdout)) {
		var q bpf.Request
		if err := json.Unmarshal([]byte(line), &q); err != nil {
			t.Fatal(err)
		}
		got = append(got, q)
	}
	if len(got) != 2 || got[0].Interface != "eth9" || got[0].Result != -int(unix.ENODEV) || got[0].Index != 0 || got[1].Interface != "eth0" || got[1].Result != 0 || got[1].Index == 0 {
		t.Errorf("followed: %+v", got)
	}
	if after := probe(t, h, "read"); after.Links != before.Links || after.Programs != before.Programs {
		t.Errorf("%d links and %d programs after it, before %d and %d", after.Links, after.Programs, before.Links, before.Programs)
	}
}

func said(r *lab.Result) string {
	if r == nil {
		return "no answer"
	}
	return fmt.Sprintf("status %d: %s%s", r.Code, r.Stdout, r.Stderr)
}
