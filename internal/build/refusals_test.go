// SPDX-License-Identifier: Apache-2.0

package build_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lupatch/lupatch/internal/build"
	"github.com/lupatch/lupatch/internal/refuse"
	"github.com/lupatch/lupatch/internal/sample"
)

const showVersion = "static int version_proc_show(struct seq_file *m, void *v)\n{\n"

// before puts text in front of a function of fs/proc/version.c, and statements
// at its beginning.
func before(text, statements string) edit {
	return edit{versionC, showVersion, text + showVersion + statements}
}

// Each is a patch to real source that must not become an update.
var refused = []struct {
	name  string
	edits []edit
	want  refusal
}{
	{"comment", []edit{{versionC, "// SPDX-License-Identifier: GPL-2.0\n", "// SPDX-License-Identifier: GPL-2.0\n/* The version,\n * in a file. */\n"}},
		refusal{refuse.NothingChanged, versionC, []string{"same machine code"}}},
	{"disabled by configuration", []edit{{meminfoC, `show_val_kb(m, "HighTotal:      ", i.totalhigh);`, `show_val_kb(m, "TotalHigh:      ", i.totalhigh);`}},
		refusal{refuse.NothingChanged, meminfoC, []string{"same machine code"}}},
	{"only init", []edit{{versionC, "\tpde_make_permanent(pde);\n", "\tif (pde)\n\t\tpde_make_permanent(pde);\n"}},
		refusal{refuse.OnlyInit, "proc_version_init", []string{"already run"}}},

	{"notrace", []edit{{"kernel/extable.c", "\tif (is_kernel_text(addr))\n\t\treturn 1;\n", "\tif (is_kernel_text(addr) || addr == 4711)\n\t\treturn 1;\n"}},
		refusal{refuse.NoFtraceSite, "core_kernel_text", []string{"arch/x86/kernel/alternative.c, which uses it, cannot be verified (run-pre-mismatch at int3_selftest"}}},
	{"inlined into notrace", []edit{{"arch/x86/mm/fault.c", "\tif (unlikely(kmmio_fault(regs, address)))\n", "\tif (unlikely(address != 4711 && kmmio_fault(regs, address)))\n"}},
		refusal{refuse.NoFtraceSite, "exc_page_fault", []string{"ftrace site"}}},
	{"assembly", []edit{{"arch/x86/lib/memcpy_64.S", "\tmovq %rdi, %rax\n\tmovq %rdx, %rcx\n\tshrq $3, %rcx\n", "\tmovq %rdi, %rax\n\tnop\n\tmovq %rdx, %rcx\n\tshrq $3, %rcx\n"}},
		refusal{refuse.NoFtraceSite, "arch/x86/lib/memcpy_64.S", []string{"assembly"}}},
	{"vdso", []edit{{"arch/x86/entry/vdso/vclock_gettime.c", "\treturn __cvdso_time(t);\n", "\treturn __cvdso_time(t) + 1;\n"}},
		refusal{refuse.NoFtraceSite, "arch/x86/entry/vdso/vclock_gettime.c", []string{"vDSO"}}},

	{"structure of a file", []edit{{ramCoreC, "\tatomic_t    size;\n", "\tatomic_t    size;\n\tuint32_t    generation;\n"}},
		refusal{refuse.StructLayout, "persistent_ram_buffer", []string{"12 bytes in the running kernel and would be 16", "pointers to it"}}},
	{"structure of a driver", []edit{{e1000H, "\tu32 bd_number;\n", "\tu32 bd_number;\n\tu32 resets[2];\n"}},
		refusal{refuse.StructLayout, "e1000_adapter", []string{"bytes in the running kernel"}}},
	{"initial value", []edit{{e1000C, "#define COPYBREAK_DEFAULT 256\n", "#define COPYBREAK_DEFAULT 128\n"}},
		refusal{refuse.DataChanged, "copybreak", []string{"already holds the old one"}}},
	{"initial text", []edit{{e1000C, `e1000_driver_string[] = "Intel(R) PRO/1000 Network Driver";`, `e1000_driver_string[] = "Intel(R) PRO/1000 network driver";`}},
		refusal{refuse.DataChanged, "e1000_driver_string", []string{"already holds the old one"}}},
	{"table of devices", []edit{{e1000C, "\tINTEL_E1000_ETHERNET_DEVICE(0x1000),\n", "\tINTEL_E1000_ETHERNET_DEVICE(0x0FFF),\n"}},
		refusal{refuse.DataChanged, "__mod_pci__e1000_pci_tbl_device_table", []string{"already holds the old one"}}},
	{"table of operations", []edit{{e1000C, "\t.ndo_validate_addr\t= eth_validate_addr,\n", ""}},
		refusal{refuse.DataChanged, "e1000_netdev_ops", []string{"already holds the old one"}}},

	// Both modules that use it see the new prototype, and nobody's code differs.
	{"prototype that makes no code", []edit{
		{"drivers/iio/accel/mma7455.h", "int mma7455_core_probe(struct device *dev, struct regmap *regmap,\n\t\t       const char *name);", "int mma7455_core_probe(struct device *dev, struct regmap *regmap,\n\t\t       const void *name);"},
		{"drivers/iio/accel/mma7455_core.c", "int mma7455_core_probe(struct device *dev, struct regmap *regmap,\n\t\t       const char *name)", "int mma7455_core_probe(struct device *dev, struct regmap *regmap,\n\t\t       const void *name)"}},
		refusal{refuse.NothingChanged, "drivers/iio/accel/mma7455_core.c", []string{"same machine code"}}},

	{"header of the kernel", []edit{{"include/linux/bcd.h", "#define bcd2bin(x)", "#define bcd2bin_(x)"}},
		refusal{refuse.CompileFailed, "drivers/firmware/efi/cper.c", []string{"error:", "bcd2bin"}}},
	{"not built", []edit{{"drivers/irqchip/irq-gic.c", "#include <linux/init.h>\n", "#include <linux/init.h>\n\n"}},
		refusal{refuse.PatchScope, "drivers/irqchip/irq-gic.c", []string{"configuration"}}},
	{"Kconfig", []edit{{"fs/proc/Kconfig", "config PROC_FS\n", "config PROC_FS\n\t# on\n"}},
		refusal{refuse.PatchScope, "fs/proc/Kconfig", []string{"neither C source nor a header"}}},
	{"Makefile", []edit{{"fs/proc/Makefile", "obj-y   += proc.o\n", "obj-y   += proc.o\n# on\n"}},
		refusal{refuse.PatchScope, "fs/proc/Makefile", []string{"neither C source nor a header"}}},

	{"does not compile", []edit{before("", "\tm->count = unheard_of;\n")},
		refusal{refuse.CompileFailed, versionC, []string{"error:", "unheard_of", "undeclared"}}},
	{"symbol of nobody", []edit{before("extern int nobody_has_this(void);\n\n", "\tm->count += nobody_has_this();\n")},
		refusal{refuse.UnresolvedSymbol, "nobody_has_this", []string{"kernel image has no symbol"}}},
	{"symbol of a module", []edit{before("extern int e1000_up(void *);\n\n", "\te1000_up(v);\n")},
		refusal{refuse.UnresolvedSymbol, "e1000_up", []string{"kernel image has no symbol"}}},
	{"new parameter", []edit{{e1000C, "#define COPYBREAK_DEFAULT 256\n", "static unsigned int fresh;\nmodule_param(fresh, uint, 0644);\n#define COPYBREAK_DEFAULT 256\n"}},
		refusal{refuse.SpecialSection, "__param", []string{"only at boot or at module load"}}},
	{"new tracepoint", []edit{
		{versionC, "#include \"internal.h\"\n", "#include \"internal.h\"\n#include <linux/tracepoint.h>\n\nDECLARE_TRACE(version_read, TP_PROTO(int n), TP_ARGS(n));\nDEFINE_TRACE(version_read, TP_PROTO(int n), TP_ARGS(n));\n"},
		before("", "\ttrace_version_read(1);\n")},
		refusal{refuse.SpecialSection, "__tracepoint_version_read", []string{"only at boot or at module load"}}},
}

func TestRefused(t *testing.T) {
	realTree(t)
	for _, c := range refused {
		t.Run(c.name, func(t *testing.T) {
			sample.Of(t, 2)
			t.Parallel()
			_, err := attempt(t, diffOf(t, c.edits...))
			c.want.check(t, err)
		})
	}
}

// A header leads to more files than asked for: the message says so, with some of
// them, and what to do.
func TestRefusedScope(t *testing.T) {
	realTree(t)
	patch := diffOf(t, edit{bcdH, "#define const_bcd2bin(x)	(((x) & 0x0f) + ((x) >> 4) * 10)", "#define const_bcd2bin(x)	(((x) & 0x0f) + ((x) >> 4) * 9)"})
	_, err := attempt(t, patch, func(o *build.Options) { o.MaxUnits = 2 })
	refusal{refuse.HeaderScope, bcdH, []string{"more than 2 would have to be compiled", ".c"}}.check(t, err)
	if e, _ := refuse.As(err); !strings.Contains(e.Advice(), "--max-units") {
		t.Errorf("the advice is %q", e.Advice())
	}
}

// patchName is where a refusal of the whole patch points: to the file given.
func patchName(t *testing.T, err error) string {
	if e, ok := refuse.As(err); ok && filepath.Base(e.Where) == "fix.patch" {
		return e.Where
	}
	return "the patch"
}

// Patches that are wrong as such.
func TestRefusedPatch(t *testing.T) {
	realTree(t)
	good := string(diffOf(t, before("", "\tm->count++;\n")))
	for _, c := range []struct {
		name, patch string
		want        refusal
	}{
		{"other context", strings.Replace(good, " static int version_proc_show", " static int version_proc_print", 1), refusal{refuse.PatchDoesNotApply, versionC + ":9", []string{"hunk 1 of 1", "not in the source"}}},
		{"missing file", strings.ReplaceAll(good, versionC, "fs/proc/versions.c"), refusal{refuse.PatchDoesNotApply, "fs/proc/versions.c", []string{"no such file"}}},
		{"applied already", string(reverse(good)), refusal{refuse.PatchDoesNotApply, versionC + ":9", []string{"not in the source"}}},
		{"empty", "", refusal{refuse.PatchMalformed, "fix.patch", []string{"no diff"}}},
		{"prose", "please fix the kernel\n", refusal{refuse.PatchMalformed, "fix.patch", []string{"no diff"}}},
		{"cut off", good[:strings.LastIndex(good[:len(good)-2], "\n")+1], refusal{refuse.PatchMalformed, "fix.patch", []string{"line"}}},
		{"broken header", strings.Replace(good, "@@ -", "@@ x", 1), refusal{refuse.PatchMalformed, "fix.patch", []string{"line 4", "hunk header"}}},
		{"uncounted line", good + "+\t/* more */\n", refusal{refuse.PatchMalformed, "fix.patch", []string{"line 12", "does not count it"}}},
		{"merge", "diff --cc fs/proc/version.c\nindex 1,2..3\n--- a/fs/proc/version.c\n+++ b/fs/proc/version.c\n@@@ -1,1 -1,1 +1,1 @@@\n--a\n -b\n++c\n", refusal{refuse.PatchMalformed, "fix.patch", []string{"no diff"}}},
		{"documentation", "--- a/Documentation/livepatch/livepatch.rst\n+++ b/Documentation/livepatch/livepatch.rst\n@@ -1 +1 @@\n-a\n+b\n--- a/MAINTAINERS\n+++ b/MAINTAINERS\n@@ -1 +1 @@\n-a\n+b\n",
			refusal{refuse.NothingChanged, "fix.patch", []string{"made of: Documentation/livepatch/livepatch.rst, MAINTAINERS"}}},
		{"same file twice", good + good, refusal{refuse.PatchMalformed, versionC, []string{"twice"}}},
		{"new file", "diff --git a/fs/proc/new.c b/fs/proc/new.c\nnew file mode 100644\n--- /dev/null\n+++ b/fs/proc/new.c\n@@ -0,0 +1 @@\n+int x;\n", refusal{refuse.PatchScope, "fs/proc/new.c", []string{"adds a file"}}},
		{"renamed file", "diff --git a/fs/proc/version.c b/fs/proc/edition.c\nsimilarity index 100%\nrename from fs/proc/version.c\nrename to fs/proc/edition.c\n", refusal{refuse.PatchScope, "fs/proc/edition.c", []string{"renames"}}},
		{"binary", "diff --git a/fs/proc/version.c b/fs/proc/version.c\nindex 1111111..2222222 100644\nBinary files a/fs/proc/version.c and b/fs/proc/version.c differ\n", refusal{refuse.PatchScope, versionC, []string{"binary"}}},
		{"way out of the tree", strings.ReplaceAll(good, versionC, "../../../../etc/passwd"), refusal{refuse.PatchScope, "etc/passwd", nil}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			_, err := attempt(t, []byte(c.patch))
			if c.want.where == "fix.patch" {
				c.want.where = patchName(t, err)
			}
			c.want.check(t, err)
		})
	}
}

// reverse swaps the two sides of a diff.
func reverse(patch string) []byte {
	lines := strings.SplitAfter(patch, "\n")
	for i, l := range lines {
		switch {
		case strings.HasPrefix(l, "--- "), strings.HasPrefix(l, "+++ "), l == "":
		case strings.HasPrefix(l, "@@"):
			f := strings.Fields(l)
			f[1], f[2] = "-"+f[2][1:], "+"+f[1][1:]
			lines[i] = strings.Join(f, " ") + "\n"
		case l[0] == '-':
			lines[i] = "+" + l[1:]
		case l[0] == '+':
			lines[i] = "-" + l[1:]
		}
	}
	return []byte(strings.Join(lines, ""))
}

// A release that no archive has.
func TestUnknownRelease(t *testing.T) {
	const unknown = "6.1.0-999-amd64"
	_, err := attempt(t, diffOf(t, before("", "\tm->count++;\n")), func(o *build.Options) { o.Release = unknown })
	wantRefusal(t, err, refuse.SourceUnavailable, unknown)
}

// A compiler that says it is another version than the kernel's.
func TestWrongCompiler(t *testing.T) {
	patch := diffOf(t, before("", "\tm->count++;\n"))
	real, err := exec.LookPath("gcc-12")
	if err != nil {
		t.Fatal(err)
	}
	bin := t.TempDir()
	script := "#!/bin/sh\n[ \"$1\" = --version ] && { echo 'gcc-12 (Debian 12.1.0-1) 12.1.0'; exit; }\nexec " + real + " \"$@\"\n"
	if err := os.WriteFile(filepath.Join(bin, "gcc-12"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	_, err = attempt(t, patch)
	refusal{refuse.CompilerMismatch, "gcc-12", []string{"12.2.0", "12.1.0"}}.check(t, err)
}
