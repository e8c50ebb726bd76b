// SPDX-License-Identifier: Apache-2.0

package probation

import (
	"os"
	"strings"
	"testing"
)

func frame(text string) Frame {
	f := Frame{}
	f.Interrupted = strings.HasPrefix(text, "i ")
	text = strings.TrimPrefix(text, "i ")
	f.Unreliable = strings.HasPrefix(text, "? ")
	text = strings.TrimPrefix(text, "? ")
	f.Function, f.Module, _ = strings.Cut(text, " ")
	return f
}

var (
	ofModule = Update{Name: "fix_mtu", Module: "fix_mtu__2", Units: []Unit{{"e1000", []string{"e1000_change_mtu"}}}}
	ofKernel = Update{Name: "fix_core", Module: "fix_core", Units: []Unit{{"vmlinux", []string{"vfs_read", "do_x.isra.0"}}}}
)

func TestBlame(t *testing.T) {
	for name, c := range map[string]struct {
		u     Update
		place string
		stack []string
		want  string // part of the reason; empty if it is not attributed
	}{
		"own code":                         {ofModule, "e1000_change_mtu fix_mtu__2", []string{"dev_set_mtu", "entry_SYSCALL_64"}, "code of the update"},
		"own code further out":             {ofKernel, "kfree", []string{"vfs_read fix_core", "entry_SYSCALL_64"}, "vfs_read [fix_core] is code of the update"},
		"replaced function":                {ofModule, "x", []string{"e1000_change_mtu e1000", "entry_SYSCALL_64"}, "replaces"},
		"unit that is a module":            {ofModule, "tcp_ack", []string{"e1000_clean e1000", "asm_common_interrupt"}, "a unit that the update changes"},
		"replaced function of vmlinux":     {ofKernel, "do_x.isra.0", nil, "replaces"},
		"cold part":                        {ofKernel, "vfs_read.cold", nil, "replaces"},
		"vmlinux otherwise":                {ofKernel, "vfs_write", []string{"entry_SYSCALL_64"}, ""},
		"the same name in another module":  {ofKernel, "vfs_read other", []string{"entry_SYSCALL_64"}, ""},
		"an older generation":              {ofModule, "e1000_change_mtu fix_mtu", []string{"entry_SYSCALL_64"}, ""},
		"interrupted":                      {ofModule, "timer_fn other", []string{"i asm_sysvec_apic_timer_interrupt", "i e1000_change_mtu fix_mtu__2"}, ""},
		"an address on a whole stack":      {ofModule, "f other", []string{"? e1000_change_mtu fix_mtu__2", "entry_SYSCALL_64"}, ""},
		"an address on a broken stack":     {ofModule, "", []string{"? e1000_change_mtu fix_mtu__2", "? entry_SYSCALL_64"}, "could not be followed"},
		"of the unit, on a broken stack":   {ofModule, "", []string{"? e1000_clean e1000", "? entry_SYSCALL_64"}, ""},
		"interrupted, on a broken stack":   {ofModule, "", []string{"i ? e1000_change_mtu fix_mtu__2"}, ""},
		"nothing is known":                 {ofModule, "", nil, ""},
		"in a kernel thread":               {ofKernel, "f other", []string{"? vfs_read fix_core", "kthread", "ret_from_fork"}, ""},
		"of another module, whole, no '?'": {ofModule, "f other", []string{"g other", "entry_SYSCALL_64"}, ""},
	} {
		r := &Report{Kind: Warning}
		if c.place != "" {
			f := frame(c.place)
			r.Function = &f
		}
		for _, s := range c.stack {
			r.Stack = append(r.Stack, frame(s))
		}
		b := c.u.blame(r)
		if (b != nil) != (c.want != "") || b != nil && (!strings.Contains(b.Why, c.want) || b.Update != c.u.Name) {
			t.Errorf("%s: %+v, want %q", name, b, c.want)
		}
	}
}

// Reports of real kernels: what the module lufault did is attributed to an
// update of it, and to none of another unit; what a timer did while the module
// was interrupted is not.
func TestBlameOfRealReports(t *testing.T) {
	mine := Update{Name: "u", Module: "u", Units: []Unit{{"lufault", []string{"fault_warn"}}}}
	spun := Update{Name: "u", Module: "u", Units: []Unit{{"vmlinux", []string{"fault_interrupt"}}}}
	for _, file := range []string{"6.1.0-47-amd64", "6.12.95+deb12-amd64"} {
		b, err := os.ReadFile("testdata/" + file + ".kmsg")
		if err != nil {
			t.Fatal(err)
		}
		n, blamed := 0, 0
		var doing string
		parse(records(t, b), func(r *Report) {
			// The second report of sleep in atomic context comes when the task
			// dies of the first.
			n++
			if mine.blame(r) != nil {
				blamed++
			} else if doing != "atomic" {
				t.Errorf("%s: not attributed: %s", file, r)
			}
			if other := ofModule.blame(r); other != nil {
				t.Errorf("%s: attributed to another unit: %s: %s", file, r, other.Why)
			}
			if doing == "interrupt" {
				// As if the function that was interrupted were one of the kernel's.
				for i := range r.Stack {
					if r.Stack[i].Function == "fault_interrupt" {
						r.Stack[i].Module = ""
					}
				}
				if b := spun.blame(r); b != nil {
					t.Errorf("%s: attributed to what was interrupted: %s", file, b.Why)
				}
			}
		}, func(m string) { doing = strings.TrimPrefix(m, "== ") })
		if n != 19 || blamed != 18 {
			t.Errorf("%s: %d reports, %d attributed", file, n, blamed)
		}
	}
}
