// SPDX-License-Identifier: Apache-2.0

package probation

import "regexp"

// ending is how the end of a report is told. "---[ end trace" ends every report,
// as does a time in which nothing was added.
type ending int

const (
	byTrace ending = iota // by "---[ end trace" alone
	byStack               // with the stack of the task
	byRule                // by a line of "="
	byQuiet               // by nothing: it has several stacks
)

// start is a line that begins a report. Several of them may stand in one: the
// one of the highest rank gives kind and title.
type start struct {
	kind Kind
	rank int
	ends ending
	expr *regexp.Regexp
	// task, if not nil, takes name and number of the task out of the line.
	task *regexp.Regexp
}

// starts are the first lines of what counts as a fault, in the words of Linux 5.1
// to 6.12 on x86 (kernel/panic.c, kernel/watchdog.c, kernel/hung_task.c,
// kernel/rcu/tree_stall.h, kernel/sched/core.c, kernel/locking/lockdep.c,
// lib/list_debug.c, lib/refcount.c, lib/ubsan.c, mm/page_alloc.c, mm/kasan,
// mm/kfence, mm/slub.c, arch/x86/kernel/dumpstack.c, traps.c, arch/x86/mm/fault.c).
// Failed allocations and the OOM killer are no faults of the kernel, although
// they print stacks.
var starts = []start{
	{Warning, 0, byTrace, re(`^-+\[ cut here \]-+$`), nil},
	{Warning, 1, byTrace, re(`^WARNING: (CPU: \d+ PID: \d+|\S+:\d+) at `), nil},
	{Warning, 1, byStack, re(`^unchecked MSR access error: `), nil},
	{Oops, 2, byTrace, re(`: [0-9a-f]{4,} \[#\d+\]`), nil},
	{Oops, 3, byTrace, re(`^BUG: (kernel NULL pointer dereference|unable to handle|stack guard page was hit)`), nil},
	{Oops, 3, byTrace, re(`^(Unable to handle kernel|Internal error: |(traps: )?PANIC: double fault)`), nil},
	{Protection, 4, byTrace, re(`^(Oops: )?general protection fault\b`), nil},
	{Bug, 4, byTrace, re(`^kernel BUG at `), nil},
	{ListCorruption, 5, byTrace, re(`^list_(add|del) (corruption|double add)`), nil},
	{Refcount, 5, byTrace, re(`^refcount_t: `), nil},
	{SoftLockup, 5, byStack, re(`^(NMI )?watchdog: BUG: soft lockup - `), re(`\[(.+):(\d+)\]$`)},
	{HardLockup, 5, byStack, re(`^(NMI )?watchdog: Watchdog detected hard LOCKUP`), nil},
	{WorkLockup, 5, byQuiet, re(`^BUG: workqueue lockup - `), nil},
	{Stall, 5, byQuiet, re(`^(rcu: )?INFO: \S+ (self-)?detected .*stall`), nil},
	{HungTask, 5, byStack, re(`^INFO: task .+:\d+ blocked for more than \d+ seconds`), re(`^INFO: task (.+):(\d+) blocked`)},
	{Atomic, 5, byStack, re(`^BUG: scheduling while atomic: `), re(`^BUG: scheduling while atomic: (.+)/(\d+)/`)},
	{Atomic, 5, byStack, re(`^BUG: sleeping function called from invalid context`), nil},
	{Atomic, 5, byStack, re(`^BUG: using \S+ in preemptible`), re(`code: (.+)/(\d+)$`)},
	{Lockdep, 5, byStack, re(`^WARNING: (possible |inconsistent |bad |suspicious |nested |lock held |held lock |[\w-]+-safe -> )`), nil},
	{Lockdep, 5, byStack, re(`^(BUG: held lock freed|\[ BUG: Invalid wait context \])`), nil},
	{Lockdep, 5, byStack, re(`^BUG: (spinlock|rwlock) `), re(`on CPU#\d+, (.+)/(\d+)`)},
	{Sanitizer, 5, byRule, re(`^BUG: (KASAN|KFENCE|KCSAN|KMSAN): |^UBSAN: `), nil},
	{BadPage, 5, byStack, re(`^BUG: Bad (page|rss-counter) `), nil},
	{Slab, 5, byQuiet, re(`^BUG \S+ \(.*\): `), nil},
	{Panic, 6, byTrace, re(`^Kernel panic - not syncing`), nil},
	{Bug, 1, byStack, re(`^(watchdog: )?BUG: `), nil},
}

func re(expr string) *regexp.Regexp { return regexp.MustCompile(expr) }

// match finds the start of the highest rank that a line is.
func match(line string) *start {
	var best *start
	for i := range starts {
		if s := &starts[i]; (best == nil || s.rank > best.rank) && s.expr.MatchString(line) {
			best = s
		}
	}
	return best
}

// contextual says whether the stack of what was interrupted counts for a kind:
// the interrupt only found it.
func contextual(k Kind) bool {
	switch k {
	case SoftLockup, HardLockup, WorkLockup, Stall, HungTask, Atomic:
		return true
	}
	return false
}
