// SPDX-License-Identifier: Apache-2.0

package versions_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/lupatch/lupatch/internal/manifest"
	"github.com/lupatch/lupatch/internal/refuse"
	"github.com/lupatch/lupatch/kpatch/kpatchtest"
)

// Five updates on one function, each on top of all before it.
func TestChain(t *testing.T) {
	h := newHost(t)
	var all []*manifest.Manifest
	for i := range 5 {
		m := kpatchtest.On(kpatchtest.Manifest(fmt.Sprintf("u%d", i+1), "e1000", "e1000_up"), all...)
		if m.Units[0].Needs != i {
			t.Fatal(m.Units[0])
		}
		if err := h.check(m); err != nil {
			t.Fatal(err)
		}
		h.apply(m)
		all = append(all, m)
	}
	s := h.state()
	var names []string
	for _, u := range s.Chain("e1000") {
		names = append(names, u.Module)
	}
	if !slices.Equal(names, []string{"u1", "u2", "u3", "u4", "u5"}) || s.Version("e1000") != 5 || len(s.Missing()) != 0 {
		t.Fatal(names, s.Version("e1000"), s.Missing())
	}
	_, err := s.CheckRollback("u3", false)
	h.refused(err, refuse.NotNewest, "u5, u4 stand on it")
	list, err := s.CheckRollback("u3", true)
	if err != nil || len(list) != 3 || list[0].Module != "u5" || list[1].Module != "u4" || list[2].Module != "u3" {
		t.Fatal(list, err)
	}
}

// A version is more than its number: the same number may have been reached by
// other updates.
func TestOtherOrigin(t *testing.T) {
	h := newHost(t)
	ours := kpatchtest.Manifest("ours", "e1000", "e1000_up")
	theirs := kpatchtest.Manifest("theirs", "e1000", "e1000_down")
	elsewhere := kpatchtest.Manifest("elsewhere", "vmlinux", "f")
	second := kpatchtest.On(kpatchtest.Manifest("second", "e1000", "e1000_reset"), ours)
	same := kpatchtest.On(kpatchtest.Manifest("same", "e1000", "e1000_down"), ours)
	both := kpatchtest.On(kpatchtest.Manifest("both", "e1000", "e1000_reset"), elsewhere, theirs)
	h.apply(theirs)
	h.refused(h.check(second), refuse.WrongVersion, "stands on the update ours, which is not applied")
	// What the source had in it has to be there, in whatever unit.
	h.refused(h.check(both), refuse.WrongVersion, "stands on the update elsewhere")
	h.apply(elsewhere)
	if err := h.check(both); err != nil {
		t.Fatal(err)
	}
	h.apply(both)
	_, err := h.state().CheckRollback("elsewhere", false)
	h.refused(err, refuse.NotNewest, "both stands on it")
	h.refused(h.check(same), refuse.WrongVersion, "stands on the update ours")
	// Another build of what it stands on.
	rebuilt := kpatchtest.Manifest("theirs", "e1000", "e1000_down", "e1000_up")
	h.refused(h.check(kpatchtest.On(kpatchtest.Manifest("third", "e1000", "x"), rebuilt)), refuse.WrongVersion, "another build of that is applied")
	// On part of what is there.
	h.refused(h.check(kpatchtest.On(kpatchtest.Manifest("third", "e1000", "x"), theirs)), refuse.WrongVersion, "at version 2 (theirs, both), the update needs version 1")
	h.refused(h.check(kpatchtest.On(kpatchtest.Manifest("third", "e1000", "e1000_reset"), theirs)), refuse.FunctionConflict, "update both")
}

// A livepatch that plain insmod loaded is nobody's version.
func TestBaseByHand(t *testing.T) {
	h := newHost(t)
	first := kpatchtest.Manifest("first", "e1000", "e1000_up")
	if err := h.k.Load(t.Context(), kpatchtest.Module(first), ""); err != nil {
		t.Fatal(err)
	}
	h.refused(h.check(kpatchtest.On(kpatchtest.Manifest("second", "e1000", "e1000_down"), first)), refuse.WrongVersion, "no copy in its store")
	if v := h.state().Version("e1000"); v != 0 {
		t.Fatal(v)
	}
}

// Somebody takes a livepatch away below another one: the kernel lets him.
func TestGap(t *testing.T) {
	h := newHost(t)
	first := kpatchtest.Manifest("first", "e1000", "e1000_up")
	second := kpatchtest.On(kpatchtest.Manifest("second", "e1000", "e1000_up"), first)
	h.apply(first)
	h.apply(second)
	if err := h.k.Disable(t.Context(), "first"); err != nil {
		t.Fatal(err)
	}
	s := h.state()
	if m := s.Missing(); len(m) != 1 || m[0] != "second is in force without first, on which it stands" {
		t.Fatal(m)
	}
	h.refused(h.check(kpatchtest.On(kpatchtest.Manifest("third", "e1000", "x"), second)), refuse.WrongVersion, "second is in force without first")
	h.refused(h.check(first), refuse.WrongVersion, "second is in force without first")
	if u, err := s.CheckRollback("second", false); err != nil || u[0].Module != "second" {
		t.Fatal(u, err)
	}
}
