// SPDX-License-Identifier: Apache-2.0

package kbuild

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lupatch/lupatch/internal/refuse"
	"github.com/lupatch/lupatch/internal/sample"
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
	if got := sources(a); !slices.Equal(got, []string{dir + "e1000_hw.c"}) || a.Units[0].Unit != "e1000" || a.Differ != 1 {
		t.Errorf("%v of %+v", got, a)
	}
	// A C file that is part of another.
	a = affected(t, tr, "kernel/sched/rt.c", "int sched_rr_timeslice = RR_TIMESLICE;", "int sched_rr_timeslice = RR_TIMESLICE + 1;")
	if got := sources(a); !slices.Equal(got, []string{"kernel/sched/build_policy.c"}) {
		t.Errorf("%v", got)
	}
}

// TestRealWideHeaders changes headers that thousands of files read. What is to
// be compiled is known by hand.
func TestRealWideHeaders(t *testing.T) {
	sample.OnlyThorough(t, "TestRealHeaderOfDriver has one with fewer readers")
	tr := realTree(t)
	const skbuff, tcp = "include/linux/skbuff.h", "include/net/tcp.h"
	for _, c := range []struct {
		file, old, new string
		readers, most  int // at least, and at most compared
		want           []string
	}{
		{skbuff, "/* These two members must be first to match sk_buff_head. */", "/* These two members\n\t\t\t * are first. */", 0, 0, nil},
		{skbuff, "#define SKB_MAX_ALLOC		(SKB_MAX_ORDER(0, 2))", "#define SKB_MAX_ALLOC		(SKB_MAX_ORDER(0, 1))", 4500, 20,
			[]string{"net/core/filter.c", "net/ipv4/ip_output.c", "net/ipv6/ip6_output.c", "net/unix/af_unix.c"}},
		{tcp, "static inline u32 tcp_rto_min_us(struct sock *sk)\n{", "static inline u32 tcp_rto_min_us(struct sock *sk)\n{\n\tif (!sk)\n\t\treturn 0;\n", 400, 20,
			[]string{"net/ipv4/tcp_input.c", "net/ipv4/tcp_output.c"}},
	} {
		a := affected(t, tr, c.file, c.old, c.new)
		if a.Readers < c.readers || a.Compared > c.most || a.Differ < len(c.want) || !slices.Equal(sources(a), c.want) {
			t.Errorf("%s: %+v, %q", c.file, a, sources(a))
		}
	}
}

// What is left out without a comparison has no difference: a sample of it.
func TestRealLeftOut(t *testing.T) {
	sample.OnlyThorough(t, "it is a sample itself, of what TestRealWideHeaders leaves out")
	tr := realTree(t)
	const h = "include/linux/skbuff.h"
	ov := overlay(t, tr, map[string][]byte{h: edit(t, tr, h, "static inline bool skb_csum_is_sctp(struct sk_buff *skb)\n{", "static inline bool skb_csum_is_sctp(struct sk_buff *skb)\n{\n\tif (!skb)\n\t\treturn false;\n")})
	all, err := tr.readersOf(t.Context(), []string{h})
	if err != nil {
		t.Fatal(err)
	}
	kept, err := tr.mayNotice(t.Context(), ov, []string{h}, all)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d of %d may notice", len(kept), len(all))
	if len(kept) < 3 || len(kept) > 200 {
		t.Fatalf("%d of %d units are compared", len(kept), len(all))
	}
	left := slices.DeleteFunc(slices.Clone(all), func(u *TU) bool { return slices.Contains(kept, u) })
	rnd := rand.New(rand.NewPCG(4711, 1))
	for range 10 {
		u := left[rnd.IntN(len(left))]
		_, _, code, err := tr.differ(t.Context(), u, ov)
		if err != nil || code {
			t.Errorf("%s: differs %t, %v", u.Source, code, err)
		}
	}
}

// Changes that no livepatch can carry out, because headers are used for more
// than compiling C.
func TestRealHeaderRefused(t *testing.T) {
	tr := realTree(t)
	for _, c := range []struct {
		file, old, new string
		id             refuse.ID
		where, text    string
	}{
		// By assembly alone.
		{"arch/x86/entry/calling.h", "\tpushq\t%rsi\t\t/* pt_regs->si */", "\tpushq\t%rdi\t\t/* pt_regs->si */", refuse.NoFtraceSite, "arch/x86/", "assembly"},
		// A table of names is made of its comments.
		{"arch/x86/include/asm/cpufeatures.h", "#define X86_FEATURE_FPU", "#define X86_FEATURE_FPU_", refuse.HeaderScope, "arch/x86/include/asm/cpufeatures.h", "by a script"},
		// Constants for assembly are made of it.
		{"include/linux/kbuild.h", `: : "i" (val))`, `: : "i" (val + 8))`, refuse.HeaderScope, "include/linux/kbuild.h", "constants"},
	} {
		ov := overlay(t, tr, map[string][]byte{c.file: edit(t, tr, c.file, c.old, c.new)})
		a, err := tr.Affected(t.Context(), ov, []string{c.file}, nil, 0)
		wantRefusal(t, err, c.id, c.text)
		if e, ok := refuse.As(err); a != nil || ok && !strings.HasPrefix(e.Where, c.where) {
			t.Errorf("%s: %+v, %v", c.file, a, err)
		}
	}
}
