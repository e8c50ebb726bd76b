// SPDX-License-Identifier: Apache-2.0

package kbuild

import (
	"slices"
	"testing"
	"time"
)

// TestRealImporters: who takes a symbol from elsewhere is known by hand.
func TestRealImporters(t *testing.T) {
	tr := realTree(t)
	for _, c := range []struct {
		symbol string
		want   []string
	}{
		{"garp_init_applicant", []string{"8021q"}},
		{"mma7455_core_probe", []string{"mma7455_i2c", "mma7455_spi"}},
		{"persistent_ram_new", nil}, // of a module of several files, used in it only
	} {
		begin := time.Now()
		got, err := tr.Importers(t.Context(), c.symbol)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%s: %.1f s", c.symbol, time.Since(begin).Seconds())
		if !slices.Equal(got, c.want) {
			t.Errorf("%s is used by %v, want %v", c.symbol, got, c.want)
		}
	}
	if all, err := tr.Importers(t.Context(), "_printk"); err != nil || len(all) < 1000 {
		t.Errorf("_printk is used by %d modules: %v", len(all), err)
	}
	if parts, err := tr.Parts(t.Context(), "mma7455_i2c"); err != nil || !slices.Equal(parts, []string{"drivers/iio/accel/mma7455_i2c.c"}) {
		t.Errorf("mma7455_i2c is made of %v: %v", parts, err)
	}
}

// TestRealUsers: files whose code uses a name, and none that only declare it.
func TestRealUsers(t *testing.T) {
	tr := realTree(t)
	const e1000 = "drivers/net/ethernet/intel/e1000/"
	for _, c := range []struct {
		names      []string
		unit       string
		skip, want []string
	}{
		// Declared in a header that all files of the module read.
		{[]string{"e1000_reinit_locked"}, "e1000", []string{e1000 + "e1000_main.c"}, []string{e1000 + "e1000_ethtool.c"}},
		{[]string{"garp_init_applicant"}, "8021q", nil, []string{"net/8021q/vlan_gvrp.c"}},
		// The second is called by assembly only, the third by nobody.
		{[]string{"name_to_int", "do_SYSENTER_32", "nobody_has_this"}, Vmlinux, []string{"fs/proc/util.c", "arch/x86/entry/common.c"},
			[]string{"arch/x86/entry/entry_64_compat.S", "fs/proc/base.c", "fs/proc/fd.c", "fs/proc/generic.c"}},
	} {
		begin := time.Now()
		tus, err := tr.Users(t.Context(), []string{c.unit}, c.names, c.skip)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%v: %.1f s", c.names, time.Since(begin).Seconds())
		var got []string
		for _, u := range tus {
			got = append(got, u.Source)
		}
		if slices.Sort(got); !slices.Equal(got, c.want) {
			t.Errorf("%v of %s are used in %v, want %v", c.names, c.unit, got, c.want)
		}
	}
}
