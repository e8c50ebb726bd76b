// SPDX-License-Identifier: Apache-2.0

package kpatch_test

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lupatch/lupatch/internal/refuse"
	"github.com/lupatch/lupatch/kpatch"
	"github.com/lupatch/lupatch/kpatch/kpatchtest"
)

func host(t *testing.T) (*kpatch.Kernel, *kpatchtest.Kernel) {
	t.Helper()
	fake := kpatchtest.New(t.TempDir())
	return &kpatch.Kernel{Root: fake.Root, Sys: fake}, fake
}

func wantRefusal(t *testing.T, err error, id refuse.ID, part string) {
	t.Helper()
	e, ok := refuse.As(err)
	if !ok || e.ID != id {
		t.Fatalf("error is %v, want a refusal %s", err, id)
	}
	if !strings.Contains(e.Error(), part) {
		t.Fatalf("refusal %q does not say %q", e, part)
	}
}

func module(name string, functions ...string) []byte {
	return kpatchtest.Module(kpatchtest.Manifest(name, "e1000", functions...))
}

func deadline(t *testing.T, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

func TestLoadDisableUnload(t *testing.T) {
	k, _ := host(t)
	ctx := t.Context()
	if err := k.Load(ctx, module("fix_mtu", "e1000_change_mtu"), ""); err != nil {
		t.Fatal(err)
	}
	enabled, err := k.Wait(ctx, "fix_mtu", nil)
	if err != nil || !enabled {
		t.Fatalf("enabled %v, %v", enabled, err)
	}
	list, err := k.List(ctx)
	if err != nil {
		t.Fatal(err)
	}
	id, err := kpatch.ImageBuildID(module("fix_mtu", "e1000_change_mtu"))
	if err != nil || len(id) != 40 {
		t.Fatalf("build id %q, %v", id, err)
	}
	want := []kpatch.Livepatch{{Name: "fix_mtu", Update: "fix_mtu", Generation: 1, Enabled: true, BuildID: id,
		Objects: []kpatch.Object{{Name: "e1000", Patched: true, Functions: []kpatch.Function{{Name: "e1000_change_mtu", Sympos: 1}}}}}}
	if d := cmp.Diff(want, list); d != "" {
		t.Fatal(d)
	}
	wantRefusal(t, k.Unload(ctx, "fix_mtu", nil), refuse.UnloadUnsafe, "enabled")
	if err := k.Disable(ctx, "fix_mtu"); err != nil {
		t.Fatal(err)
	}
	if enabled, err = k.Wait(ctx, "fix_mtu", nil); err != nil || enabled {
		t.Fatalf("enabled %v, %v", enabled, err)
	}
	wantRefusal(t, k.Disable(ctx, "fix_mtu"), refuse.NotApplied, "no such livepatch")
	if err := k.Unload(ctx, "fix_mtu", nil); err != nil {
		t.Fatal(err)
	}
	if loaded, _ := k.Loaded("fix_mtu"); loaded {
		t.Fatal("still loaded")
	}
	wantRefusal(t, k.Unload(ctx, "fix_mtu", nil), refuse.NotApplied, "no such module")
}

func TestTransition(t *testing.T) {
	k, fake := host(t)
	fake.AddTask(kpatchtest.Task{PID: 7, Comm: "dd", Sticky: true, Stack: []string{"e1000_change_mtu [e1000]", "dev_set_mtu", "entry_SYSCALL_64_after_hwframe"}})
	if err := k.Load(t.Context(), module("fix_mtu", "e1000_change_mtu"), ""); err != nil {
		t.Fatal(err)
	}
	_, err := k.Wait(deadline(t, 150*time.Millisecond), "fix_mtu", nil)
	if !errors.Is(err, kpatch.ErrStillInTransition) || !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("error %v", err)
	}
	now, err := k.Blockers(t.Context(), "fix_mtu")
	if err != nil {
		t.Fatal(err)
	}
	if now == nil || !now.Enabling || now.Tasks != 2 || len(now.Remaining) != 1 {
		t.Fatalf("blockers %+v", now)
	}
	if s := kpatch.Names(now.Remaining); s != "dd (7) in e1000_change_mtu [e1000] < dev_set_mtu < entry_SYSCALL_64_after_hwframe" {
		t.Fatal(s)
	}
	// One transition at a time.
	wantRefusal(t, k.Load(t.Context(), module("other", "e1000_up"), ""), refuse.KernelBusy, "fix_mtu is in transition")
	wantRefusal(t, k.Unload(t.Context(), "fix_mtu", nil), refuse.UnloadUnsafe, "transition")
	// The blocker never moved, so the way back is free.
	if err := k.Reverse(t.Context(), "fix_mtu"); err != nil {
		t.Fatal(err)
	}
	if enabled, err := k.Wait(deadline(t, 5*time.Second), "fix_mtu", nil); err != nil || enabled {
		t.Fatalf("enabled %v, %v", enabled, err)
	}
	wantRefusal(t, k.Reverse(t.Context(), "fix_mtu"), refuse.NotApplied, "")
	if now, err := k.Blockers(t.Context(), "fix_mtu"); now != nil || err != nil {
		t.Fatal(now, err)
	}
}

func TestWaitSeesTheEnd(t *testing.T) {
	k, fake := host(t)
	fake.AddTask(kpatchtest.Task{PID: 7, Comm: "dd", Sticky: true})
	if err := k.Load(t.Context(), module("fix_mtu", "e1000_change_mtu"), ""); err != nil {
		t.Fatal(err)
	}
	calls := 0
	enabled, err := k.Wait(deadline(t, 10*time.Second), "fix_mtu", func(p kpatch.Progress) {
		if calls++; calls == 1 {
			fake.Free(7)
		}
	})
	if err != nil || !enabled || calls == 0 {
		t.Fatalf("enabled %v after %d reports, %v", enabled, calls, err)
	}
	wantRefusal(t, k.Reverse(t.Context(), "fix_mtu"), refuse.NotApplied, "not in transition")
	if err := k.Enable(t.Context(), "fix_mtu"); err != nil {
		t.Fatalf("enabling what is enabled: %v", err)
	}
}

func TestDisableReversed(t *testing.T) {
	k, fake := host(t)
	if err := k.Load(t.Context(), module("fix_mtu", "e1000_change_mtu"), ""); err != nil {
		t.Fatal(err)
	}
	fake.AddForeign("vendor", "vmlinux", "schedule")
	fake.AddTask(kpatchtest.Task{PID: 7, Comm: "dd", Sticky: true})
	if err := k.Disable(t.Context(), "fix_mtu"); err != nil {
		t.Fatal(err)
	}
	wantRefusal(t, k.Disable(t.Context(), "vendor"), refuse.KernelBusy, "fix_mtu")
	if err := k.Disable(t.Context(), "fix_mtu"); err != nil {
		t.Fatalf("disabling what is on its way: %v", err)
	}
	if err := k.Enable(t.Context(), "fix_mtu"); err != nil {
		t.Fatal(err)
	}
	if enabled, err := k.Wait(deadline(t, 5*time.Second), "fix_mtu", nil); err != nil || !enabled {
		t.Fatalf("enabled %v, %v", enabled, err)
	}
}

func TestLoadRefused(t *testing.T) {
	wrong := kpatchtest.Manifest("fix_mtu", "e1000", "e1000_change_mtu")
	wrong.Release = "6.1.0-50-amd64"
	for name, c := range map[string]struct {
		set   func(*kpatchtest.Kernel)
		image []byte
		id    refuse.ID
		part  string
	}{
		"vermagic": {image: kpatchtest.Module(wrong), id: refuse.LoadRefused, part: "version magic '6.1.0-50"},
		"callback": {set: func(f *kpatchtest.Kernel) {
			f.FailLoad(syscall.EINVAL, "fix_mtu: e1000_change_mtu differs", "usb 1-1: new device", "livepatch: pre-patch callback failed for object 'e1000'")
		}, id: refuse.LoadRefused, part: "fix_mtu: e1000_change_mtu differs / livepatch: pre-patch callback failed for object 'e1000'"},
		"unsigned": {set: func(f *kpatchtest.Kernel) { f.FailLoad(syscall.EKEYREJECTED) }, id: refuse.LoadRefused, part: "signature"},
		"not root": {set: func(f *kpatchtest.Kernel) { f.FailLoad(syscall.EPERM) }, id: refuse.NotPermitted, part: "denied"},
		"symbol":   {set: func(f *kpatchtest.Kernel) { f.FailLoad(syscall.ENOENT) }, id: refuse.LoadRefused, part: "symbol"},
		"exists":   {set: func(f *kpatchtest.Kernel) { f.AddModule("fix_mtu", "") }, id: refuse.LoadRefused, part: "loaded already"},
		"garbage":  {image: []byte("garbage"), id: refuse.NotAnUpdate, part: "ELF"},
	} {
		t.Run(name, func(t *testing.T) {
			k, fake := host(t)
			fake.Log("livepatch: a line from before")
			if c.set != nil {
				c.set(fake)
			}
			if c.image == nil {
				c.image = module("fix_mtu", "e1000_change_mtu")
			}
			err := k.Load(t.Context(), c.image, "")
			wantRefusal(t, err, c.id, c.part)
			if strings.Contains(err.Error(), "usb") || strings.Contains(err.Error(), "from before") {
				t.Errorf("lines of others are in %q", err)
			}
		})
	}
	k := &kpatch.Kernel{Root: t.TempDir()}
	wantRefusal(t, k.Load(t.Context(), module("a", "b"), ""), refuse.NoLivepatch, "")
}

func TestRenamed(t *testing.T) {
	image := module("fix_mtu", "e1000_change_mtu")
	second, err := kpatch.Renamed(image, "fix_mtu__2")
	if err != nil {
		t.Fatal(err)
	}
	if n, err := kpatch.ModuleName(second); err != nil || n != "fix_mtu__2" {
		t.Fatal(n, err)
	}
	if n, _ := kpatch.ModuleName(image); n != "fix_mtu" {
		t.Fatal("the original was altered")
	}
	k, _ := host(t)
	if err := k.Load(t.Context(), second, ""); err != nil {
		t.Fatal(err)
	}
	p, err := k.Livepatch("fix_mtu__2")
	if err != nil || p.Update != "fix_mtu" || p.Generation != 2 {
		t.Fatalf("%+v, %v", p, err)
	}
	if b, err := kpatch.Renamed(kpatchtest.Sign(image), "fix_mtu__2"); err != nil || !bytes.Equal(b, second) {
		t.Fatal("the signature is not taken off", err)
	}
	if _, err = kpatch.Renamed(image, strings.Repeat("x", 56)); err == nil {
		t.Error("a name that is too long was taken")
	}
	for n := range image {
		kpatch.Renamed(image[:n], "x") // must not panic
	}
}

func TestGeneration(t *testing.T) {
	for module, want := range map[string]struct {
		update string
		n      int
	}{"a": {"a", 1}, "a__2": {"a", 2}, "a__31": {"a", 31}, "a__1": {"a__1", 1}, "a__02": {"a__02", 1}, "__2": {"__2", 1}} {
		u, n := kpatch.Generation(module)
		if u != want.update || n != want.n {
			t.Errorf("%s: %s %d", module, u, n)
		}
		if kpatch.GenerationName(u, n) != module {
			t.Errorf("%s does not come back", module)
		}
	}
}
