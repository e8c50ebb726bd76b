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

func TestTmpSkb(t *testing.T) {
	tr := realTree(t)
	for _, c := range [][3]string{
		{"include/linux/skbuff.h", "#define SKB_MAX_ALLOC		(SKB_MAX_ORDER(0, 2))", "#define SKB_MAX_ALLOC		(SKB_MAX_ORDER(0, 1))"},
		{"include/linux/skbuff.h", "/* These two members must be first to match sk_buff_head. */", "/* These two members are first. */"},
		{"include/net/tcp.h", "static inline u32 tcp_rto_min_us(struct sock *sk)\n{", "static inline u32 tcp_rto_min_us(struct sock *sk)\n{\n\tif (!sk)\n\t\treturn 0;\n"},
		{"include/linux/etherdevice.h", "static inline void eth_hw_addr_inherit(struct net_device *dst,\n				       struct net_device *src)\n{", "static inline void eth_hw_addr_inherit(struct net_device *dst,\n				       struct net_device *src)\n{\n\tif (dst == src)\n\t\treturn;"},
	} {
		a := affected(t, tr, c[0], c[1], c[2])
		t.Log(sources(a))
	}
}
