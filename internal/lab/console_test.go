// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"errors"
	"regexp"
	"strings"
	"testing"
	"time"
)

func TestFaultPatterns(t *testing.T) {
	faulty := map[string]string{
		"[    1.0] BUG: kernel NULL pointer dereference, address: 0000000000000000": "bug",
		"[    1.0] BUG: unable to handle page fault for address: ffff":              "bug",
		"kernel BUG at mm/slub.c:419!":                                              "bug",
		"WARNING: CPU: 0 PID: 1 at kernel/livepatch/core.c:10 f+0x0/0x10":           "warning",
		"Oops: 0002 [#1] PREEMPT SMP NOPTI":                                         "oops",
		"general protection fault, probably for non-canonical address 0xdead":       "protection",
		"Kernel panic - not syncing: sysrq triggered crash":                         "panic",
		" Call Trace:": "trace",
		"UBSAN: array-index-out-of-bounds in x.c":                                             "sanitizer",
		"rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:":                               "stall",
		"INFO: task kworker:1 blocked for more than 120 seconds.":                             "stall",
		"watchdog: BUG: soft lockup - CPU#0 stuck for 22s!":                                   "bug",
		"list_del corruption. prev->next should be x":                                         "corruption",
		"refcount_t: underflow; use-after-free.":                                              "corruption",
		"unregister_netdevice: waiting for eth0 to become free.":                              "device",
		"livepatch: failed to initialize patch 'x' (-22)":                                     "livepatch",
		"livepatch: symbol 'f' not found in symbol table: invalid":                            "livepatch",
		"x86/modules: Skipping invalid relocation target, existing value is nonzero for type": "module",
		"e1000: Unknown symbol foo (err -2)":                                                  "module",
		"init[7]: segfault at 0 ip 0 sp 0 error 4":                                            "segfault",
		"Out of memory: Killed process 7":                                                     "memory",
	}
	for line, want := range faulty {
		if got, ok := findFault(line); !ok || got != want {
			t.Errorf("%q: %q, %t; want %q", line, got, ok, want)
		}
	}
	for _, line := range []string{
		"", "[    1.593261] AMD-Vi: AMD IOMMUv2 functionality not available on this system - This is not a bug.",
		"PCI: Using host bridge windows from ACPI; if necessary, use \"pci=nocrs\" and report a bug",
		"acpi PNP0A03:00: fail to add MMCONFIG information, can't access extended PCI configuration",
		"Spectre V2 : WARNING: Unprivileged eBPF is enabled with eIBRS on, data leaks possible",
		"livepatch: enabling patch 'lupatch_x'", "livepatch: 'lupatch_x': patching complete",
		"lupatch_x: tainting kernel with TAINT_LIVEPATCH",
		"lupatch_x: module verification failed: signature and/or required key missing - tainting kernel",
		"debug: my name is BUGS", "WARNINGS are off", "nothing OopsWrong",
	} {
		if got, ok := findFault(line); ok {
			t.Errorf("%q was taken for %q", line, got)
		}
	}
}

func TestConsoleLines(t *testing.T) {
	c := newConsole(nil)
	// However the bytes are cut, lines are whole.
	text := "one\r\ntwo BUG: x\r\n\x00three WARNING: y\nfour Kernel panic"
	for _, b := range []byte(text) {
		_, _ = c.Write([]byte{b})
	}
	if got := c.String(); got != "one\ntwo BUG: x\nthree WARNING: y\nfour Kernel panic" {
		t.Errorf("text %q", got)
	}
	f := c.allFaults()
	if len(f) != 2 || f[0].Line != 2 || f[0].Pattern != "bug" || f[1].Line != 3 || f[1].Text != "three WARNING: y" {
		t.Errorf("faults %v", f)
	}
	c.end()
	if f := c.allFaults(); len(f) != 3 || f[2].Pattern != "panic" {
		t.Errorf("the unfinished last line was not searched: %v", f)
	}
	if !strings.HasSuffix(c.tail(), "three WARNING: y\nfour Kernel panic") {
		t.Errorf("tail %q", c.tail())
	}
}

func TestConsoleWait(t *testing.T) {
	c := newConsole(nil)
	gone := make(chan struct{})
	got := make(chan string, 1)
	go func() {
		m, err := c.wait(context.Background(), gone, regexp.MustCompile(`n[0-9]+\n`))
		if err != nil {
			t.Error(err)
		}
		got <- m
	}()
	for _, s := range []string{"n", "1", "2", "\n"} {
		_, _ = c.Write([]byte(s))
	}
	if m := <-got; m != "n12\n" {
		t.Errorf("match %q", m)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
	defer cancel()
	if _, err := c.wait(ctx, gone, regexp.MustCompile("zzz")); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("deadline: %v", err)
	}
	close(gone)
	if _, err := c.wait(context.Background(), gone, regexp.MustCompile("zzz")); !errors.Is(err, ErrEnded) {
		t.Errorf("ended: %v", err)
	}
}

func TestConsoleStalled(t *testing.T) {
	c := newConsole(nil)
	const silence = 50 * time.Millisecond
	begin := time.Now()
	stalled := c.stalled(t.Context(), silence, initStarted)
	for range 5 { // each line starts the time again
		time.Sleep(silence / 5)
		_, _ = c.Write([]byte("[    1.0] line\n"))
	}
	<-stalled
	if d := time.Since(begin); d < 2*silence-time.Millisecond {
		t.Errorf("stalled after %v", d)
	}
	stalled = c.stalled(t.Context(), silence, initStarted)
	_, _ = c.Write([]byte("[    2.5] Run /init as init process\n"))
	select {
	case <-stalled:
		t.Error("a silent first process was taken for a stall")
	case <-time.After(4 * silence):
	}
}

func TestKVMFlags(t *testing.T) {
	for text, want := range map[string]bool{
		"processor\t: 0\nflags\t\t: fpu vme vmx sse\n": true,
		"flags : fpu svm": true,
		"flags\t\t: fpu vme sse\nvmx flags\t: vnmi\n":        false,
		"model name\t: vmx svm\nflags\t: fpu\nbugs\t: vmx\n": false,
		"": false,
	} {
		if got := kvmFlags(text); got != want {
			t.Errorf("%q: %t", text, got)
		}
	}
}

func TestParseFile(t *testing.T) {
	if f, err := ParseFile("a/b.ko:/root/c.ko"); err != nil || f.Host != "a/b.ko" || f.Path != "/root/c.ko" {
		t.Errorf("%+v, %v", f, err)
	}
	for _, s := range []string{"", "a", "a:b", ":/b", "a:"} {
		if _, err := ParseFile(s); err == nil {
			t.Errorf("%q was accepted", s)
		}
	}
}

func FuzzConsole(f *testing.F) {
	f.Add([]byte("a\nBUG: b\r\n"), uint8(3))
	f.Fuzz(func(t *testing.T, b []byte, cut uint8) {
		whole, parts := newConsole(nil), newConsole(nil)
		_, _ = whole.Write(b)
		n := min(int(cut), len(b))
		_, _ = parts.Write(b[:n])
		_, _ = parts.Write(b[n:])
		if whole.String() != parts.String() || len(whole.allFaults()) != len(parts.allFaults()) {
			t.Fatal("the cut matters")
		}
	})
}
