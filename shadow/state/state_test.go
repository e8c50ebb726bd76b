// SPDX-License-Identifier: Apache-2.0

package state

import (
	"encoding/json"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/mdlayher/netlink"
)

func TestMatch(t *testing.T) {
	was := []Vector{{Index: 0, Action: "eth0-rx-0"}, {Index: 1, Action: "eth0-tx-0"}, {Index: 2, Action: "x"}, {Index: 3, Action: "x"}, {Index: 4}}
	// Another order and other numbers: what has a name of its own is found by it.
	now := []Vector{{Index: 0, IRQ: 40, Action: "eth0-tx-0"}, {Index: 1, IRQ: 41, Action: "eth0-rx-0"}, {Index: 2, IRQ: 42, Action: "x"}, {Index: 3, IRQ: 43, Action: "x"}}
	for i, want := range []int{41, 40, 42, 43, 0} {
		got := 0
		if m := match(was[i], was, now); m != nil {
			got = m.IRQ
		}
		if got != want {
			t.Errorf("%s: interrupt %d, want %d", was[i], got, want)
		}
	}
}

func TestDiff(t *testing.T) {
	a := &State{Vectors: []Vector{{Index: 0, IRQ: 30, CPUs: "1"}, {Index: 1, IRQ: 31, CPUs: "0"}}, Timestamps: &Timestamps{TX: 1}, Attributes: map[string]string{"threaded": "1", "x": "1"}}
	b := &State{Vectors: []Vector{{Index: 0, IRQ: 77, CPUs: "1"}}, Attributes: map[string]string{"threaded": "0", "y": "2"}}
	want := []Difference{
		{Setting: "vectors", Field: "vector 1", Before: "0"},
		{Setting: "hwtstamp", Field: "config", Before: "tx 1 rx 0 flags 0"},
		{Setting: "attributes", Field: "threaded", Before: "1", After: "0"},
		{Setting: "attributes", Field: "x", Before: "1"},
		{Setting: "attributes", Field: "y", After: "2"},
	}
	if d := cmp.Diff(want, Diff(a, b)); d != "" {
		t.Error(d)
	}
	if d := Diff(b, a); len(d) != 5 || d[0].Field != "count" {
		t.Errorf("%v", d)
	}
	if d := Diff(a, a); d != nil {
		t.Errorf("%v", d)
	}
	// It is kept in a file for another process.
	kept, err := json.Marshal(a)
	if err != nil {
		t.Fatal(err)
	}
	var read State
	if err := json.Unmarshal(kept, &read); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(a, &read); d != "" {
		t.Error(d)
	}
}

func TestCompare(t *testing.T) {
	before := Settings{"rings": {"rx": "512", "tx": "256"}, linkModes: {"autoneg": "1", "speed": "1000", "advertised": "{a} of {a b}"}, "features": {"active": "{x y}"}, "eee": {"enabled": "1"}}
	after := Settings{"rings": {"rx": "256", "tx": "256"}, linkModes: {"autoneg": "1", "speed": "4294967295", "advertised": "{a b} of {a b}"}, "features": {"active": "{y z}"}}
	var got []string
	for _, d := range Compare(before, after) {
		s := d.String()
		if d.Negotiated {
			s += " (negotiated)"
		}
		got = append(got, s)
	}
	want := []string{
		"eee: enabled was 1, is nothing",
		"features: active lost x, has z besides",
		"link modes: advertised has b besides",
		"link modes: speed was 1000, is 4294967295 (negotiated)",
		"rings: rx was 512, is 256",
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if d := Compare(before, before); d != nil {
		t.Errorf("%v", d)
	}
	// Speed that was set by hand is nobody else's doing.
	before[linkModes]["autoneg"], after[linkModes]["autoneg"] = "0", "0"
	if slices.ContainsFunc(Compare(before, after), func(d Difference) bool { return d.Negotiated }) {
		t.Error("without autonegotiation nothing is negotiated")
	}
}

// attributes encodes a message as the kernel does.
func encoded(t *testing.T, f func(*netlink.AttributeEncoder)) []byte {
	t.Helper()
	e := netlink.NewAttributeEncoder()
	f(e)
	b, err := e.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func bits(names []string, mask, value bool) func(*netlink.AttributeEncoder) error {
	return func(e *netlink.AttributeEncoder) error {
		e.Flag(bitsetNoMask, !mask)
		e.Nested(bitsetBits, func(e *netlink.AttributeEncoder) error {
			for i, n := range names {
				e.Nested(1, func(e *netlink.AttributeEncoder) error {
					e.Uint32(bitIndex, uint32(i))
					e.String(bitName, n)
					e.Flag(bitValue, value)
					return nil
				})
			}
			return nil
		})
		return nil
	}
}

func TestFieldsOf(t *testing.T) {
	msg := encoded(t, func(e *netlink.AttributeEncoder) {
		e.Nested(1, func(e *netlink.AttributeEncoder) error { e.String(2, "eth0"); return nil })
		e.Uint8(2, 1)
		e.Nested(3, bits([]string{"b", "a"}, true, true))
		e.Nested(4, bits([]string{"peer"}, false, false))
		e.Uint32(5, 1000)
		e.Nested(77, bits([]string{"new"}, false, false))
	})
	got, err := fieldsOf(queries[1], msg)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"autoneg": "1", "advertised": "{a b} of {a b}", "speed": "1000", "attribute 77": "{new}"}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	for n := 1; n < len(msg); n++ { // whatever comes, it does not panic
		_, _ = fieldsOf(queries[1], msg[:n])
	}
	if _, err := fieldsOf(queries[1], []byte{1, 0, 0, 0}); err == nil {
		t.Error("an attribute shorter than its header was taken")
	}
}

func FuzzFieldsOf(f *testing.F) {
	f.Add([]byte{8, 0, 5, 0, 232, 3, 0, 0})
	f.Add([]byte{20, 0, 3, 128, 4, 0, 1, 0, 12, 0, 3, 128, 8, 0, 1, 128, 4, 0, 3, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, q := range queries {
			if fields, err := fieldsOf(q, b); err != nil && fields != nil {
				t.Error("an answer beside an error")
			}
		}
	})
}
