// SPDX-License-Identifier: Apache-2.0

package debugkernel_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/lupatch/lupatch/internal/lab"
	"github.com/lupatch/lupatch/internal/lab/labtest"
)

// TestDebugKernel boots it, lets drivers come and go without a report, and then
// does what it is there to notice.
func TestDebugKernel(t *testing.T) {
	k := labtest.DebugKernel(t)
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS("testdata/control")); err != nil {
		t.Fatal(err)
	}
	if err := k.Modules(t.Context(), dir); err != nil {
		t.Fatal(err)
	}
	h := labtest.Boot(t, lab.Config{
		Release: lab.DebugKernel,
		NICs:    []lab.NIC{{Model: "virtio-net-pci"}, {Model: "e1000"}},
		Modules: []string{"bonding", "bridge", "8021q", "nf_tables", "sch_tbf"},
		Files:   []lab.File{{Host: filepath.Join(dir, "control.ko"), Path: "/root/control.ko"}},
	}, labtest.Allow("."))
	ctx := labtest.Context(t)
	for _, driver := range []string{"virtio_net", "e1000"} {
		if err := h.Rmmod(ctx, driver); err != nil {
			t.Fatal(err)
		}
		if err := h.Modprobe(ctx, driver, ""); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"eth0", "eth1"} {
		if _, err := h.WaitNetwork(ctx, name); err != nil {
			t.Fatal(err)
		}
	}
	for _, f := range h.Faults() {
		t.Errorf("before anything was wrong: %s", f)
	}
	if !labtest.Lockdep(t, h) {
		t.Fatal("lockdep is off before anything was wrong")
	}
	for _, c := range []struct{ param, report string }{
		{"inversion=1", `WARNING: possible circular locking dependency detected`},
		{"after_free=1", `BUG: KASAN: use-after-free in control_after_free`},
		{"after_free=1", `BUG: KASAN: use-after-free in control_after_free`}, // not only once
	} {
		before := strings.Count(h.Console(), c.report)
		if err := h.Insmod(ctx, "/root/control.ko", c.param); err != nil {
			t.Fatal(err)
		}
		if err := h.Rmmod(ctx, "control"); err != nil {
			t.Fatal(err)
		}
		if _, err := h.WaitConsole(ctx, regexp.MustCompile(`(?s)(`+regexp.QuoteMeta(c.report)+`.*){`+string(rune('1'+before))+`}`)); err != nil {
			t.Errorf("%s was not noticed: %v", c.param, err)
		}
		found := false
		for _, f := range h.Faults() {
			found = found || strings.Contains(f.Text, c.report)
		}
		if !found {
			t.Errorf("%s is no fault of the console: %v", c.param, h.Faults())
		}
	}
	if labtest.Lockdep(t, h) {
		t.Error("lockdep goes on after a report")
	}
}
