// SPDX-License-Identifier: Apache-2.0

package kpatch

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

// Taint is a set of the kernel's taint flags (/proc/sys/kernel/tainted).
type Taint uint64

// TaintFlag is one of them.
type TaintFlag struct {
	Letter  string `json:"letter"`
	Meaning string `json:"meaning"`
}

// The flags that have names here: what dies, and what loading an update sets.
const (
	TaintDie       Taint = 1 << 7
	TaintOutOfTree Taint = 1 << 12
	TaintUnsigned  Taint = 1 << 13
	TaintLivepatch Taint = 1 << 15
)

// TaintOfLoading are the flags that loading an update sets by itself.
const TaintOfLoading = TaintOutOfTree | TaintUnsigned | TaintLivepatch

// taintFlags are in the order of their bits (Documentation/admin-guide/
// tainted-kernels.rst; the last came with 5.19, "test", and 6.13, "fwctl").
var taintFlags = []TaintFlag{
	{"P", "a proprietary module was loaded"},
	{"F", "a module was loaded by force"},
	{"S", "the kernel runs on a processor or with a setting that is out of specification"},
	{"R", "a module was unloaded by force"},
	{"M", "a processor reported a machine check"},
	{"B", "a bad page was met"},
	{"U", "a user asked for the taint"},
	{"D", "the kernel has died: there was an Oops or a BUG"},
	{"A", "an ACPI table was overridden"},
	{"W", "the kernel has issued a warning"},
	{"C", "a staging driver was loaded"},
	{"I", "a bug of the firmware was worked around"},
	{"O", "a module from outside the kernel was loaded"},
	{"E", "an unsigned module was loaded"},
	{"L", "there was a soft lockup"},
	{"K", "the kernel was live patched"},
	{"X", "the distribution's own flag"},
	{"T", "structures are laid out at random"},
	{"N", "a test was run within the kernel"},
	{"J", "firmware was changed by fwctl"},
}

// Tainted reads the kernel's taint flags.
func (k *Kernel) Tainted() (Taint, error) {
	s, err := k.attr("/proc/sys/kernel/tainted")
	if err != nil {
		return 0, fmt.Errorf("reading the kernel's taint: %w", err)
	}
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("reading the kernel's taint: %w", err)
	}
	return Taint(n), nil
}

// Flags names the flags that are set.
func (t Taint) Flags() []TaintFlag {
	list := []TaintFlag{}
	for bit := range 64 {
		switch {
		case t>>bit&1 == 0:
		case bit < len(taintFlags):
			list = append(list, taintFlags[bit])
		default:
			list = append(list, TaintFlag{strconv.Itoa(bit), "a flag that is not known here"})
		}
	}
	return list
}

// Letters is the flags' letters, as the kernel prints them.
func (t Taint) Letters() string {
	var b strings.Builder
	for _, f := range t.Flags() {
		b.WriteString(f.Letter)
	}
	return b.String()
}

// Counts are the kernel's own counts of what went wrong since boot.
type Counts struct {
	Oopses, Warnings uint64
	// Known is false where the kernel does not count: before 6.2 and the stable
	// kernels that have it from there (6.1.8).
	Known bool
}

// Counts reads /sys/kernel/oops_count and warn_count.
func (k *Kernel) Counts() Counts {
	read := func(name string) (uint64, error) {
		b, err := os.ReadFile(k.Path("/sys/kernel", name))
		if err != nil {
			return 0, err
		}
		return strconv.ParseUint(strings.TrimSpace(string(b)), 10, 64)
	}
	oopses, err1 := read("oops_count")
	warnings, err2 := read("warn_count")
	return Counts{oopses, warnings, err1 == nil && err2 == nil}
}

// PanicSettings lists the settings that turn a fault into a panic, so that
// nothing is left to take an update back: those of kernel.panic_on_oops and
// others that are on.
func (k *Kernel) PanicSettings() []string {
	list := []string{}
	for _, name := range []string{"panic_on_oops", "panic_on_warn", "softlockup_panic", "hardlockup_panic", "hung_task_panic", "panic_on_rcu_stall"} {
		if on, err := k.boolAttr("/proc/sys/kernel", name); err == nil && on {
			list = append(list, "kernel."+name)
		}
	}
	return list
}
