// SPDX-License-Identifier: Apache-2.0

package kpatch

import (
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/lupatch/lupatch/internal/manifest"
	"github.com/lupatch/lupatch/kpatch/kpatchtest"
)

func TestParseModules(t *testing.T) {
	got, err := parseModules("e1000 167936 0 - Live 0xffffffffc0300000\nlp 16384 1 [permanent], Live 0x0 (OEK)\nmii 1 2 r8169,usbnet, Live 0x0\nx 1 - - Loading 0x0\n")
	if err != nil {
		t.Fatal(err)
	}
	want := []Module{
		{Name: "e1000", Size: 167936, State: "Live"},
		{Name: "lp", Size: 16384, Refs: 1, State: "Live", Taints: "OEK"},
		{Name: "mii", Size: 1, Refs: 2, Users: []string{"r8169", "usbnet"}, State: "Live"},
		{Name: "x", Size: 1, Refs: -1, State: "Loading"},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Fatal(d)
	}
	for _, s := range []string{"a\n", "a b 0 - Live\n", "a 1 x - Live\n"} {
		if _, err := parseModules(s); err == nil {
			t.Errorf("%q was taken", s)
		}
	}
}

func TestParseRecords(t *testing.T) {
	got := parseRecords([]byte("6,339,5140900,-;livepatch: enabling patch 'a'\n SUBSYSTEM=x\n DEVICE=y\n12,340,1,c,caller=T7;b; c\nnothing\n" + `3,341,2,-,caller=C1,x=y;rcu: \x091-\x0aend \xc3\xa4 \x5cx \xzz` + "\n"))
	want := []Record{
		{Level: 6, Seq: 339, Time: 5140900 * time.Microsecond, Text: "livepatch: enabling patch 'a'"},
		{Facility: 1, Level: 4, Seq: 340, Time: time.Microsecond, Caller: "T7", Text: "b; c"},
		{Level: 3, Seq: 341, Time: 2 * time.Microsecond, Caller: "C1", Text: "rcu: \t1-\nend ä \\x \\xzz"},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Fatal(d)
	}
	for _, bad := range []string{"", ";", "1,2,3;x", "x,2,3,-;x", "1,-2,3,-;x", "1,2,-3,-;x", "1,2,3,-"} {
		if r, err := ParseRecord(bad); err == nil {
			t.Errorf("%q was taken as %+v", bad, r)
		}
	}
}

// The numbers tell of records that were overwritten.
func TestLogLost(t *testing.T) {
	fake := kpatchtest.New(t.TempDir())
	k := &Kernel{Root: fake.Root, Sys: fake}
	l, err := k.OpenLog()
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for _, c := range []struct{ add, lost string }{{"6,7,1,-;a\n6,8,1,-;b\n", "0"}, {"6,12,1,-;c\n", "3"}, {"6,13,1,-;d\n", "0"}, {"", "0"}} {
		f, err := os.OpenFile(k.Path("/dev/kmsg"), os.O_APPEND|os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		f.WriteString(c.add)
		f.Close()
		list, lost, err := l.Read()
		if err != nil || strconv.FormatUint(lost, 10) != c.lost || len(list) != strings.Count(c.add, "\n") {
			t.Errorf("%q: %+v, %d lost, %v", c.add, list, lost, err)
		}
	}
}

func TestParseStack(t *testing.T) {
	got := parseStack("[<0>] e1000_up+0x1/0x2 [e1000]\n[<0>] f.cold+0x1/0x2 [m 1234abcd]\n[<0>] entry_SYSCALL_64_after_hwframe+0x69/0xd3\n")
	want := []Frame{{"e1000_up", "e1000"}, {"f.cold", "m"}, {"entry_SYSCALL_64_after_hwframe", ""}}
	if d := cmp.Diff(want, got); d != "" {
		t.Fatal(d)
	}
}

// OnCPU is tried for real: it loads nothing.
func TestOnCPU(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var mine unix.CPUSet
	if err := unix.SchedGetaffinity(0, &mine); err != nil {
		t.Fatal(err)
	}
	for cpu := range len(mine) * 64 {
		if !mine.IsSet(cpu) {
			continue
		}
		ran := false
		err := Real{}.OnCPU(cpu, func() {
			ran = true
			var now unix.CPUSet
			if err := unix.SchedGetaffinity(0, &now); err != nil || now.Count() != 1 || !now.IsSet(cpu) {
				t.Errorf("affinity %v, %v", now, err)
			}
		})
		if err != nil || !ran {
			t.Fatal(ran, err)
		}
	}
	if err := (Real{}).OnCPU(1023, func() { t.Error("ran on a CPU that is not there") }); err == nil {
		t.Error("no error for a CPU that is not there")
	}
}

// The running kernel's own procfs is read as it is.
func TestRealProc(t *testing.T) {
	k := Running()
	if _, err := k.Release(); err != nil {
		t.Fatal(err)
	}
	list, err := k.threads()
	if err != nil || len(list) == 0 {
		t.Fatal(list, err)
	}
	self := threadID{"self", "self"}
	for _, l := range list {
		if n := os.Getpid(); l.pid == strconv.Itoa(n) {
			self = l
		}
	}
	state, cpu, err := k.stat(self)
	if err != nil || cpu < 0 || state < 'A' {
		t.Fatal(state, cpu, err)
	}
}

func FuzzNote(f *testing.F) {
	f.Add([]byte("\x04\x00\x00\x00\x02\x00\x00\x00\x03\x00\x00\x00GNU\x00ab\x00\x00"))
	f.Add([]byte("\x04\x00\x00\x00\xff\xff\xff\xff\x03\x00\x00\x00GNU\x00ab\x00\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if id := NoteBuildID(b); len(id) > 2*len(b) {
			t.Fatal(id)
		}
	})
}

func FuzzProc(f *testing.F) {
	f.Add("e1000 167936 0 - Live 0xffffffffc0300000\n[<0>] a+0x1/0x2 [b c]\n6,1,1,-;x\n y\n")
	f.Fuzz(func(t *testing.T, s string) {
		parseModules(s)
		wholeStack(parseStack(s))
		parseRecords([]byte(s))
	})
}

func FuzzImage(f *testing.F) {
	f.Add([]byte("\x7fELF\x02\x01\x01"))
	f.Add(kpatchtest.ELF("fix_mtu", kpatchtest.Release, nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		out, err := Renamed(b, "name__2")
		if err != nil {
			return
		}
		if n, err := ModuleName(out); err != nil || n != "name__2" || len(out) != len(manifest.Unsigned(b)) {
			t.Fatal(n, err)
		}
	})
}
