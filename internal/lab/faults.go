// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"fmt"
	"regexp"
)

// FaultPattern is one way in which a kernel says that something is wrong.
type FaultPattern struct {
	Name string
	Expr *regexp.Regexp
}

// FaultPatterns are searched for in every line of a console.
var FaultPatterns = []FaultPattern{
	{"bug", regexp.MustCompile(`\bBUG: |kernel BUG at `)},
	{"warning", regexp.MustCompile(`\bWARNING: `)},
	{"oops", regexp.MustCompile(`\bOops\b|Unable to handle kernel|unable to handle (kernel|page fault)`)},
	{"protection", regexp.MustCompile(`general protection`)},
	{"panic", regexp.MustCompile(`Kernel panic|Fatal exception|end Kernel panic`)},
	{"trace", regexp.MustCompile(`Call Trace:`)},
	{"sanitizer", regexp.MustCompile(`\b(UBSAN|KASAN|KCSAN|KMSAN|KFENCE): `)},
	{"lockdep", regexp.MustCompile(`INFO: trying to register non-static key|turning off the locking correctness validator|lock held when returning to user space`)},
	{"stall", regexp.MustCompile(`rcu: INFO: |soft lockup|hard LOCKUP|blocked for more than \d+ seconds`)},
	{"corruption", regexp.MustCompile(`(list_add|list_del) corruption|refcount_t: |Bad page |stack-protector: |corrupted stack end|slab.*(Poison|Redzone) overwritten`)},
	{"device", regexp.MustCompile(`NETDEV WATCHDOG|unregister_netdevice: waiting for`)},
	{"livepatch", regexp.MustCompile(`livepatch: .*\b(fail|failed|failure|error|invalid|unresolvable)\b`)},
	{"module", regexp.MustCompile(`x86/modules: |module: .*(Skipping|invalid relocation)|: Unknown symbol |disagrees about version of symbol`)},
	{"memory", regexp.MustCompile(`Out of memory: |invoked oom-killer`)},
	{"segfault", regexp.MustCompile(`: segfault at |trap (invalid opcode|divide error)`)},
}

// benign are lines that match a pattern and are no faults.
var benign = []*regexp.Regexp{
	// Mitigation reports at boot, depending on the emulated CPU.
	regexp.MustCompile(`(Spectre|MDS|MMIO|TAA|SRBDS|Retbleed|RETBleed|GDS|SRSO|L1TF|ITS|TSA|VMSCAPE).*WARNING: |WARNING: (Spectre|MDS|MMIO|TAA|Retbleed|SRSO)`),
}

// Fault is one line of a console that says that something is wrong.
type Fault struct {
	Pattern string `json:"pattern"` // the name of the FaultPattern
	Line    int    `json:"line"`    // counted from 1
	Text    string `json:"text"`
}

func (f Fault) String() string {
	return fmt.Sprintf("console line %d: %s: %s", f.Line, f.Pattern, f.Text)
}

// findFault looks at one line.
func findFault(line string) (name string, ok bool) {
	for _, p := range FaultPatterns {
		if !p.Expr.MatchString(line) {
			continue
		}
		for _, b := range benign {
			if b.MatchString(line) {
				return "", false
			}
		}
		return p.Name, true
	}
	return "", false
}
