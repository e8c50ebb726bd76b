// SPDX-License-Identifier: Apache-2.0

package update

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/lupatch/lupatch/internal/refuse"
	"github.com/lupatch/lupatch/internal/sign"
	"github.com/lupatch/lupatch/kpatch/kpatchtest"
)

func (m *machine) boot(words ...string) *Boot {
	m.t.Helper()
	m.reboot(words...)
	b, err := m.Boot(m.t.Context(), Options{})
	if err != nil {
		m.t.Fatal(err)
	}
	return b
}

func (b *Boot) applied() string {
	var out []string
	for _, r := range b.Applied {
		out = append(out, r.Update)
	}
	return strings.Join(out, " ")
}

// What was committed is in force again after a boot, in its order, and nothing else.
func TestBoot(t *testing.T) {
	m := newMachine(t)
	m.mustApply(first(), second(), kpatchtest.Manifest("gone", "vmlinux", "f"))
	if _, err := m.Rollback(t.Context(), "gone", Options{}); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if got := m.boot().applied(); got != "first second" || m.present() != "first second" {
			t.Fatal(got, m.present())
		}
		m.fake.SetUptime(SettleTime)
		if err := m.Settle(Options{}); err != nil {
			t.Fatal(err)
		}
	}
	// Once more in the same boot: nothing is left to do.
	b, err := m.Boot(t.Context(), Options{})
	if err != nil || b.applied() != "" || len(b.Skipped) != 0 {
		t.Fatal(b, err)
	}
	if _, err := m.Rollback(t.Context(), "first", Options{Later: true}); err != nil {
		t.Fatal(err)
	}
	if got := m.boot().applied(); got != "" || m.present() != "" {
		t.Fatal(got, m.present())
	}
}

func TestBootOff(t *testing.T) {
	m := newMachine(t)
	m.mustApply(first())
	b := m.boot(Parameter + "=0")
	if b.applied() != "" || len(b.Skipped) != 1 || !strings.Contains(b.Skipped[0].Reason, "lupatch.enable=0") {
		t.Fatalf("%+v", b)
	}
	if got := m.boot(Parameter + "=1").applied(); got != "first" {
		t.Fatal(got)
	}
}

// Each kernel has its own updates, whatever their names.
func TestBootOtherKernel(t *testing.T) {
	m := newMachine(t)
	m.mustApply(first())
	const other = "6.1.0-48-amd64"
	m.fake.Reboot(other)
	there := NewHost(m.Kernel)
	b, err := there.Boot(t.Context(), Options{})
	if err != nil || b.applied() != "" || len(b.Skipped) != 0 {
		t.Fatalf("%+v %v", b, err)
	}
	if got := m.boot().applied(); got != "first" {
		t.Fatal(got)
	}
}

// An update that does not load is tried again at the next boot; what stands on it
// has to wait, and what does not stand on it is applied.
func TestBootFails(t *testing.T) {
	m := newMachine(t)
	m.mustApply(first(), second())
	m.reboot()
	m.fake.FailLoad(syscall.ENOMEM)
	b, err := m.Boot(t.Context(), Options{})
	if err == nil || b.applied() != "" || len(b.Skipped) != 2 || !strings.Contains(b.Skipped[1].Reason, "stands on the update first") {
		t.Fatalf("%+v %v", b, err)
	}
	if got := m.boot().applied(); got != "first second" {
		t.Fatal(got)
	}
}

// Two boots that do not last bar an update; the third leaves it out.
func TestBarredByBoots(t *testing.T) {
	m := newMachine(t)
	m.mustApply(first(), second())
	m.boot()
	m.refused(m.Settle(Options{}), refuse.KernelBusy, "up for 20s")
	m.fake.SetUptime(SettleTime)
	if err := m.Settle(Options{}); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if got := m.boot().applied(); got != "first second" {
			t.Fatal(got)
		}
	}
	b := m.boot()
	if b.applied() != "" || len(b.Skipped) != 2 || !strings.Contains(b.Skipped[0].Reason, "2 boots of this host with it have not lasted 10m") {
		t.Fatalf("%+v", b)
	}
	_, err := m.Apply(t.Context(), []string{m.file(first())}, Options{})
	m.refused(err, refuse.Barred, "not lasted")
	m.refused(m.Unbar("nobody", Options{}), refuse.NotApplied, "not barred")
	for _, name := range []string{"first", "second"} {
		if err := m.Unbar(name, Options{}); err != nil {
			t.Fatal(err)
		}
	}
	if b, err = m.Boot(t.Context(), Options{}); err != nil || b.applied() != "first second" {
		t.Fatal(b, err)
	}
	m.fake.SetUptime(SettleTime)
	if err := m.Settle(Options{}); err != nil {
		t.Fatal(err)
	}
	if got := m.boot().applied(); got != "first second" {
		t.Fatal(got)
	}
}

// A later generation, which is there because an earlier copy could not leave memory,
// has the update's own name after a boot.
func TestBootGeneration(t *testing.T) {
	m := newMachine(t)
	man := first()
	man.Escapes = []string{"a timer"}
	m.mustApply(man)
	if _, err := m.Rollback(t.Context(), "first", Options{}); err != nil {
		t.Fatal(err)
	}
	m.mustApply(man)
	if stored, _ := m.Store.List(); !slices.Equal(stored, []string{"first", "first__2"}) {
		t.Fatal(stored)
	}
	m.boot()
	if m.present() != "first" {
		t.Fatal(m.present())
	}
	if stored, _ := m.Store.List(); !slices.Equal(stored, []string{"first"}) {
		t.Fatal(stored)
	}
}

// At boot an update is verified again: its signature is with it, and who may
// vouch for it is asked anew.
func TestBootVerifies(t *testing.T) {
	m := newMachine(t)
	m.mustApply(first())
	path := filepath.Join(m.Root, sign.PolicyPath)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("require = any\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	// What is in force is not questioned.
	if b, err := m.Boot(t.Context(), Options{}); err != nil || len(b.Skipped) != 0 {
		t.Fatal(b, err)
	}
	m.reboot()
	b, err := m.Boot(t.Context(), Options{})
	if e, ok := refuse.As(err); !ok || e.ID != refuse.SignatureMissing || b.applied() != "" || len(b.Skipped) != 1 {
		t.Fatal(b, err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if got := m.boot().applied(); got != "first" {
		t.Fatal(got)
	}
}
