// SPDX-License-Identifier: Apache-2.0

package versions_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lupatch/lupatch/internal/manifest"
	"github.com/lupatch/lupatch/internal/refuse"
	"github.com/lupatch/lupatch/kpatch"
	"github.com/lupatch/lupatch/kpatch/kpatchtest"
	"github.com/lupatch/lupatch/versions"
)

type host struct {
	t     *testing.T
	k     *kpatch.Kernel
	fake  *kpatchtest.Kernel
	store versions.Store
}

func newHost(t *testing.T) *host {
	fake := kpatchtest.New(t.TempDir())
	return &host{t, &kpatch.Kernel{Root: fake.Root, Sys: fake}, fake, versions.Store{Dir: filepath.Join(fake.Root, versions.StoreDir)}}
}

func (h *host) apply(m *manifest.Manifest) {
	h.t.Helper()
	image := kpatchtest.Module(m)
	if err := h.store.Put(m.Name, image); err != nil {
		h.t.Fatal(err)
	}
	if err := h.k.Load(h.t.Context(), image, ""); err != nil {
		h.t.Fatal(err)
	}
}

func (h *host) state() *versions.State {
	h.t.Helper()
	s, err := versions.Read(h.t.Context(), h.k, h.store)
	if err != nil {
		h.t.Fatal(err)
	}
	return s
}

func (h *host) check(m *manifest.Manifest) error {
	h.t.Helper()
	id, err := kpatch.ImageBuildID(kpatchtest.Module(m))
	if err != nil {
		h.t.Fatal(err)
	}
	return h.state().Check(m, id)
}

func (h *host) refused(err error, id refuse.ID, part string) {
	h.t.Helper()
	e, ok := refuse.As(err)
	if !ok || e.ID != id || !strings.Contains(e.Error(), part) {
		h.t.Fatalf("error is %v, want a refusal %s that says %q", err, id, part)
	}
}

func TestVersions(t *testing.T) {
	h := newHost(t)
	first := kpatchtest.Manifest("first", "e1000", "e1000_up")
	second := kpatchtest.On(kpatchtest.Manifest("second", "e1000", "e1000_up", "e1000_down"), first)
	if v := h.state().Version("e1000"); v != 0 {
		t.Fatal(v)
	}
	h.refused(h.check(second), refuse.WrongVersion, "stands on the update first, which is not applied")
	if err := h.check(first); err != nil {
		t.Fatal(err)
	}
	h.apply(first)
	h.refused(h.check(first), refuse.AlreadyApplied, "module first")
	rebuilt := kpatchtest.Manifest("first", "e1000", "e1000_up", "e1000_down")
	h.refused(h.check(rebuilt), refuse.FunctionConflict, "another build")
	h.refused(h.check(kpatchtest.Manifest("rival", "e1000", "e1000_up")), refuse.FunctionConflict, "update first")
	h.refused(h.check(kpatchtest.Manifest("other", "e1000", "e1000_down")), refuse.WrongVersion, "version 1 (first), the update needs version 0")
	if err := h.check(kpatchtest.Manifest("apart", "vmlinux", "e1000_up")); err != nil {
		t.Fatal(err)
	}
	if err := h.check(second); err != nil {
		t.Fatal(err)
	}
	h.apply(second)
	s := h.state()
	if v := s.Version("e1000"); v != 2 {
		t.Fatal(v)
	}
	_, err := s.CheckRollback("first", false)
	h.refused(err, refuse.NotNewest, "second stands on it")
	if u, err := s.CheckRollback("", false); err != nil || len(u) != 1 || u[0].Manifest.Name != "second" {
		t.Fatal(u, err)
	}
	_, err = s.CheckRollback("nobody", true)
	h.refused(err, refuse.NotApplied, "no such update")
	if err := h.k.Disable(t.Context(), "second"); err != nil {
		t.Fatal(err)
	}
	s = h.state()
	if v := s.Version("e1000"); v != 1 || len(s.Resident) != 1 {
		t.Fatal(v, s.Resident)
	}
	_, err = s.CheckRollback("second", false)
	h.refused(err, refuse.NotApplied, "still in memory")
}

func TestUnits(t *testing.T) {
	h := newHost(t)
	wrong := kpatchtest.Manifest("a", "e1000", "f")
	wrong.Units[0].BuildID = kpatchtest.BuildID("another e1000")
	h.refused(h.check(wrong), refuse.WrongUnit, "e1000 has build id")
	absent := kpatchtest.Manifest("a", "r8169", "f")
	if err := h.check(absent); err != nil {
		t.Fatalf("a module that is not loaded yet: %v", err)
	}
	release := kpatchtest.Manifest("a", "e1000", "f")
	release.Release = "6.1.0-50-amd64"
	h.refused(h.check(release), refuse.WrongRelease, "6.1.0-50-amd64, this is 6.1.0-47-amd64")
	driver := kpatchtest.Manifest("a", "e1000", "f")
	driver.Method, driver.Units[0].Functions = "driver", nil
	driver.Units[0].Driver = &manifest.Driver{SHA256: driver.Source.SHA256, BuildID: kpatchtest.BuildID("newer")}
	h.refused(h.check(driver), refuse.NotAnUpdate, "whole driver")
}

func TestForeign(t *testing.T) {
	h := newHost(t)
	h.fake.AddForeign("vendor", "vmlinux", "tcp_sendmsg")
	h.refused(h.check(kpatchtest.Manifest("a", "vmlinux", "tcp_sendmsg")), refuse.ForeignLivepatch, "tcp_sendmsg of vmlinux is replaced by the livepatch vendor")
	h.refused(h.check(kpatchtest.Manifest("vendor", "e1000", "f")), refuse.ForeignLivepatch, "of that name")
	if err := h.check(kpatchtest.Manifest("a", "e1000", "tcp_sendmsg")); err != nil {
		t.Fatalf("the same name in another object: %v", err)
	}
	twin := kpatchtest.Manifest("a", "vmlinux", "tcp_sendmsg")
	twin.Units[0].Functions[0].Sympos = 2
	if err := h.check(twin); err != nil {
		t.Fatalf("another function of the same name: %v", err)
	}
	_, err := h.state().CheckRollback("vendor", true)
	h.refused(err, refuse.NotApplied, "did not load")
	// Loaded by hand: known by its build id.
	m := kpatchtest.Manifest("byhand", "e1000", "f")
	if err := h.k.Load(t.Context(), kpatchtest.Module(m), ""); err != nil {
		t.Fatal(err)
	}
	h.refused(h.check(m), refuse.AlreadyApplied, "not lupatch that loaded it")
}

// A name in the store alone makes nothing ours.
func TestOwnNeedsBuildID(t *testing.T) {
	h := newHost(t)
	m := kpatchtest.Manifest("vendor", "vmlinux", "f")
	if err := h.store.Put("vendor", kpatchtest.Module(m)); err != nil {
		t.Fatal(err)
	}
	if s := h.state(); len(s.Updates)+len(s.Resident) != 0 {
		t.Fatal("the store alone was believed")
	}
	h.fake.AddForeign("vendor", "vmlinux", "f")
	if s := h.state(); len(s.Foreign) != 1 || len(s.Updates) != 0 {
		t.Fatalf("%+v", s)
	}
	// A damaged copy is reported.
	if err := os.WriteFile(filepath.Join(h.store.Dir, "vendor.ko"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := h.state()
	h.refused(s.Damaged["vendor"], refuse.NotAnUpdate, "ELF")
}

func TestBusy(t *testing.T) {
	h := newHost(t)
	h.fake.AddTask(kpatchtest.Task{PID: 7, Comm: "dd", Sticky: true})
	h.apply(kpatchtest.Manifest("first", "e1000", "e1000_up"))
	h.refused(h.check(kpatchtest.Manifest("a", "vmlinux", "f")), refuse.KernelBusy, "first is in transition")
	if u, err := h.state().CheckRollback("first", false); err != nil || u[0].Module != "first" {
		t.Fatal(err)
	}
}

func TestStore(t *testing.T) {
	s := versions.Store{Dir: filepath.Join(t.TempDir(), "a/b")}
	image := kpatchtest.Module(kpatchtest.Manifest("x", "e1000", "f"))
	if err := s.Remove("x"); err != nil {
		t.Fatal(err)
	}
	if err := s.Put("x", image); err != nil {
		t.Fatal(err)
	}
	st, err := s.Get("x")
	if err != nil || st.Manifest.Name != "x" || len(st.BuildID) != 40 {
		t.Fatalf("%+v %v", st, err)
	}
	if err := s.Remove("x"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Get("x"); !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
}
