// SPDX-License-Identifier: Apache-2.0

package patchgen

import (
	"strings"

	"github.com/lupatch/lupatch/internal/elfobj"
)

// role says what a section is to patchgen.
type role int

const (
	roleItems    role = iota // code and data that functions refer to
	roleSpecial              // entries that belong to places in the code
	roleRegistry             // entries that the kernel reads at load or boot
	roleNote                 // what the patch's author asks for
	roleIgnored              // not part of the running image
)

// dyndbgSection holds the descriptors of dynamic debug statements, static
// locals under various names. The module loader registers those of an update
// as it does those of any module.
const dyndbgSection = "__dyndbg"

// btfSection holds places for numbers of types and functions, which are filled
// in after the kernel has been linked.
const btfSection = ".BTF_ids"

// registries are sections in which an object announces something to the
// kernel. A livepatch registers nothing, so what is new there is refused.
var registries = []string{
	"___ksymtab", "__ksymtab_strings", "__tracepoints", "__bpf_raw_tp_map", "_ftrace_events",
	"_ftrace_eval_map", "__syscalls_metadata", ".initcall", "__param", "__modver", "_error_injection_whitelist",
	"_kprobe_blacklist", ".static_call_tramp_key", ".pci_fixup", ".con_initcall", "_bpf_raw_tp", ".kunit_test_suites",
	"__trace_printk_fmt", ".init.setup", ".x86_cpu_dev.init", "__srcu_struct_ptrs",
}

// ignored are sections that never reach the running image, or that only
// describe what stands elsewhere.
var ignored = []string{
	".discard", ".comment", ".note", ".modinfo", ".debug", ".gnu", ".llvm", ".printk_index",
	".export_symbol", "__versions", ".BTF", patchableSection, ".eh_frame", ".init_array", ".static_call.text.key",
}

func hasAnyPrefix(s string, prefixes []string) bool {
	for _, p := range prefixes {
		if strings.HasPrefix(s, p) {
			return true
		}
	}
	return false
}

func roleOf(s *elfobj.Section, sp []special) role {
	if hasAnyPrefix(s.Name, registries) {
		return roleRegistry
	}
	if !s.Alloc() || hasAnyPrefix(s.Name, ignored) && s.Name != btfSection {
		return roleIgnored
	}
	if _, ok := cutNote(s); ok {
		return roleNote
	}
	for _, x := range sp {
		if s.Name == x.name || s.Name == x.parallel {
			return roleSpecial
		}
	}
	if s.Name == altReplacement {
		return roleSpecial
	}
	return roleItems
}

func lifeOf(section string) life {
	switch {
	case strings.HasPrefix(section, ".init.") || strings.HasPrefix(section, ".head.text"):
		return initOnly
	case strings.HasPrefix(section, ".exit."):
		return exitOnly
	}
	return always
}
