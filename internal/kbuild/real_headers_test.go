// SPDX-License-Identifier: Apache-2.0

package kbuild

import (
	"slices"
	"testing"
	"time"
)

// affected is what replacing a text of a file comes to.
func affected(t *testing.T, tr *Tree, file, old, new string) *Affected {
	t.Helper()
	ov := overlay(t, tr, map[string][]byte{file: edit(t, tr, file, old, new)})
	begin := time.Now()
	a, err := tr.Affected(t.Context(), ov, []string{file}, nil, 0)
	if err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	t.Logf("%s, %.30q: %d read it, %d compared, %d differ, %d to compile, %.1f s", file, new, a.Readers, a.Compared, a.Differ, len(a.Units), time.Since(begin).Seconds())
	return a
}

func sources(a *Affected) (out []string) {
	for _, u := range a.Units {
		out = append(out, u.Source)
	}
	return out
}

func TestRealHeaderOfDriver(t *testing.T) {
	tr := realTree(t)
	const dir = "drivers/net/ethernet/intel/e1000/"
	a := affected(t, tr, dir+"e1000_hw.h", "#ifndef _E1000_HW_H_", "/* A comment. */\n#ifndef _E1000_HW_H_")
	if a.Readers != 0 || a.Compared != 0 || len(a.Units) != 0 {
		t.Errorf("a comment: %+v", a)
	}
	a = affected(t, tr, dir+"e1000_hw.h", "#define E1000_ERR_EEPROM   1", "#define E1000_ERR_EEPROM   7")
	_ = a
	t.Log(sources(a))
	// A C file that is part of another.
	a = affected(t, tr, "kernel/sched/rt.c", "int sched_rr_timeslice = RR_TIMESLICE;", "int sched_rr_timeslice = RR_TIMESLICE + 1;")
	if got := sources(a); !slices.Equal(got, []string{"kernel/sched/build_policy.c"}) {
		t.Errorf("%v", got)
	}
}
