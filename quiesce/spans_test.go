// SPDX-License-Identifier: Apache-2.0

package quiesce

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"testing"

	"github.com/lupatch/lupatch/kpatch"
)

// symbols of a kernel in which everything is met that a place can be.
const everything = `ffffffff81000000 T _text
ffffffff81000100 T alone
ffffffff81000180 t after
ffffffff81000200 t twin
ffffffff81000240 t between
ffffffff81000280 t twin
ffffffff810002c0 T last_twin_end
ffffffff81000300 T split
ffffffff81000380 t behind
ffffffff81000400 t split.cold
ffffffff81000420 t cold_end
ffffffff81000500 T __sched_text_start
ffffffff81000510 T mutex_lock
ffffffff81000580 T __sched_text_end
ffffffff81000600 D alone_data
ffffffffc0000000 t probe	[e1000]
ffffffffc0000040 t remove	[e1000]
ffffffffc0001000 t alone	[fix_a]
ffffffffc0001040 t helper	[fix_a]
`

func observer(t *testing.T, text string, functions ...Function) *Observer {
	t.Helper()
	root := t.TempDir()
	if err := os.MkdirAll(filepath.Join(root, "proc"), 0o755); err != nil {
		t.Fatal(err)
	}
	if text != "" {
		if err := os.WriteFile(filepath.Join(root, "proc/kallsyms"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	o, err := Open(&kpatch.Kernel{Root: root}, functions)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func TestHit(t *testing.T) {
	const none, seen, hidden = "none", "seen", "hidden"
	k := Function{Unit: "vmlinux", Name: "alone"}
	patched := Function{Unit: "vmlinux", Name: "alone", Module: "fix_a"}
	for _, c := range []struct {
		what      string
		fn        Function
		addr      uint64
		innermost bool
		want      string
	}{
		{"first byte", k, 0xffffffff81000100, false, seen},
		{"last byte", k, 0xffffffff8100017f, false, seen},
		{"one before", k, 0xffffffff810000ff, false, none},
		{"a return address behind the last instruction", k, 0xffffffff81000180, false, hidden},
		{"the first instruction of the next function", k, 0xffffffff81000180, true, none},
		{"next function", k, 0xffffffff81000181, false, none},
		{"the first of two of a name", Function{Unit: "vmlinux", Name: "twin", Sympos: 1}, 0xffffffff81000210, false, seen},
		{"the first, asked for the second", Function{Unit: "vmlinux", Name: "twin", Sympos: 2}, 0xffffffff81000210, false, none},
		{"the second of two of a name", Function{Unit: "vmlinux", Name: "twin", Sympos: 2}, 0xffffffff81000290, false, seen},
		{"a third that is not there", Function{Unit: "vmlinux", Name: "twin", Sympos: 3}, 0xffffffff81000290, false, none},
		{"the part that was split off", Function{Unit: "vmlinux", Name: "split"}, 0xffffffff81000410, false, hidden},
		{"the other part", Function{Unit: "vmlinux", Name: "split"}, 0xffffffff81000310, false, seen},
		{"a module's", Function{Unit: "e1000", Name: "probe"}, 0xffffffffc0000010, false, seen},
		{"a module that is not loaded", Function{Unit: "e100", Name: "probe"}, 0xffffffffc0000010, false, none},
		{"the version of an older livepatch", patched, 0xffffffffc0001010, false, seen},
		{"the shipped one, which is not in force", patched, 0xffffffff81000110, false, none},
		{"the older livepatch's, when it is not in force", k, 0xffffffffc0001010, false, none},
	} {
		o := observer(t, everything, c.fn)
		s, h := o.hit(&frame{addr: c.addr}, c.innermost)
		got := none
		if s != nil {
			got = map[bool]string{false: seen, true: hidden}[h]
			if s.fn.Name != c.fn.Name {
				t.Errorf("%s: in %s", c.what, s.fn.Name)
			}
		}
		if got != c.want {
			t.Errorf("%s: %s, want %s", c.what, got, c.want)
		}
	}
}

// procfs has no addresses: the size tells namesakes apart where it can.
func TestHitByName(t *testing.T) {
	second := observer(t, everything, Function{Unit: "vmlinux", Name: "split"}, Function{Unit: "e1000", Name: "probe"})
	blindly := observer(t, "", Function{Unit: "vmlinux", Name: "split"}, Function{Unit: "e1000", Name: "probe"})
	hidden := observer(t, regexp.MustCompile(`(?m)^\w+`).ReplaceAllString(everything, "0000000000000000"), Function{Unit: "vmlinux", Name: "split"}, Function{Unit: "e1000", Name: "probe"})
	for _, o := range []*Observer{second, blindly, hidden} {
		for _, c := range []struct {
			p    place
			want string
		}{
			{place{"split", "", 0x10, 0x80}, "split"},
			{place{"split.cold", "", 0x10, 0x20}, "split hidden"},
			{place{"split", "e1000", 0x10, 0x80}, ""},
			{place{"probe", "e1000", 0x10, 0x40}, "probe"},
			{place{"probe", "", 0x10, 0x40}, ""},
			{place{"behind", "", 0x10, 0x40}, ""},
		} {
			got := ""
			if s, hidden := o.hit(&frame{place: c.p}, false); s != nil {
				got = s.fn.Name
				if hidden {
					got += " hidden"
				}
			}
			if got != c.want {
				t.Errorf("%v: %q, want %q", c.p, got, c.want)
			}
		}
	}
	if s, _ := second.hit(&frame{place: place{"split", "", 0x10, 0x44}}, false); s != nil {
		t.Error("another size was taken for the same function")
	}
}

func TestBlind(t *testing.T) {
	o := observer(t, everything, Function{Unit: "vmlinux", Name: "mutex_lock"}, Function{Unit: "vmlinux", Name: "alone"})
	if len(o.blind) != 1 || o.blind[0].Name != "mutex_lock" {
		t.Errorf("%+v", o.blind)
	}
}

func TestParseCPUs(t *testing.T) {
	for text, want := range map[string][]int{
		"": nil, "(null)": nil, "3": {3}, "1-3,7": {1, 2, 3, 7}, "x-2,4-": nil, "2-1": nil, "5,a,6": {5, 6},
	} {
		var got []int
		for c := range parseCPUs(text) {
			got = append(got, c)
		}
		if slices.Sort(got); !slices.Equal(got, want) {
			t.Errorf("%q: %v, want %v", text, got, want)
		}
	}
	if n := len(parseCPUs("0-99999999")); n > 1<<17 {
		t.Errorf("a range of %d CPUs was believed", n)
	}
}
