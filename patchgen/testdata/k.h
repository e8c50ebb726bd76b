/* SPDX-License-Identifier: GPL-2.0-only */
/* The few constructs of the kernel that the cases need, in this file's words. */
#define noinline __attribute__((noinline))
#define __init __attribute__((section(".init.text"), cold))
#define __exit __attribute__((section(".exit.text"), cold, no_instrument_function))
#define notrace __attribute__((no_instrument_function))
#define __sched __attribute__((section(".sched.text")))
#define __read_mostly __attribute__((section(".data..read_mostly")))
#define __percpu_var __attribute__((section(".data..percpu")))
#define used __attribute__((used))

struct static_key { int enabled; void *entries; };

/* A jump label: five bytes of code, and an entry that names code, target and key. */
#define static_branch(key) ({ __label__ yes, out; int r = 0;			\
	asm goto("1: .byte 0x0f, 0x1f, 0x44, 0, 0\n"				\
		 ".pushsection __jump_table, \"aw\"\n.balign 8\n"		\
		 ".long 1b - ., %l[yes] - .\n.quad %c0 - .\n.popsection\n"	\
		 : : "i" (key) : : yes);					\
	goto out; yes: r = 1; out: r; })

/* An alternative: the first instruction, and what may stand in its place. */
#define alternative(oldi, newi)						\
	asm volatile("661: " oldi "\n662:\n"					\
		".pushsection .altinstructions, \"a\"\n"			\
		".long 661b - ., 663f - .\n.word 1\n.byte 662b - 661b, 664f - 663f\n.popsection\n" \
		".pushsection .altinstr_replacement, \"ax\"\n663: " newi "\n664:\n.popsection" \
		: : : "memory")

/* One entry in each section that lists places in the code. */
#define every_special_section						\
	asm volatile("661: nop; nop; nop; nop; nop\n"				\
		".pushsection __bug_table, \"aw\"\n.long 661b - ., 662f - .\n.word 7, 0\n.popsection\n" \
		".pushsection .rodata.str1.1, \"aMS\", @progbits, 1\n662: .string \"file.c\"\n.popsection\n" \
		".pushsection __ex_table, \"a\"\n.long 661b - ., 661b + 1 - ., 0\n.popsection\n" \
		".pushsection .parainstructions, \"a\"\n.balign 8\n.quad 661b\n.byte 1, 5\n.balign 8\n.popsection\n" \
		".pushsection .smp_locks, \"a\"\n.long 661b - .\n.popsection\n"	\
		".pushsection .return_sites, \"a\"\n.long 661b - .\n.popsection\n"	\
		".pushsection .retpoline_sites, \"a\"\n.long 661b - .\n.popsection\n" \
		".pushsection .call_sites, \"a\"\n.long 661b - .\n.popsection\n"	\
		".pushsection .ibt_endbr_seal, \"a\"\n.long 661b - .\n.popsection\n" \
		".pushsection .orc_unwind_ip, \"a\"\n.long 661b - .\n.popsection\n" \
		".pushsection .orc_unwind, \"a\"\n.byte 1, 2, 3, 4, 5, 6\n.popsection" \
		: : : "memory")

/* A static call: a place, and the key that says what is called. */
#define static_call(key)							\
	asm volatile("661: nop; nop; nop; nop; nop\n"				\
		".pushsection .static_call_sites, \"aw\"\n.long 661b - ., " key " - .\n.popsection" \
		: : : "memory")

/* The same before objtool has run: a call of the trampoline, and a mention of the key. */
#define late_static_call(name) do {						\
	asm volatile(".pushsection .discard.addressable, \"aw\"\n.quad __SCK__" #name "\n.popsection"); \
	__SCT__##name();							\
} while (0)

/* An entry in a section that lists places in the code. */
#define listed(section)								\
	asm volatile("661: nop\n.pushsection " section ", \"a\"\n.long 661b - .\n.popsection")

/* What tells objtool about places in the code: entries of different forms. */
#define mark_reachable								\
	asm volatile("661: ud2\n662:\n.pushsection .discard.reachable\n.long 662b - .\n.popsection")
#define mark_safe								\
	asm volatile("661: nop\n.pushsection .discard.retpoline_safe\n.quad 661b\n.popsection")
#define mark_odd								\
	asm volatile("661: nop\n.pushsection .discard.odd\n.long 661b - ., 661b - .\n.quad 0\n.popsection")

/* A dynamic debug descriptor, as pr_debug() makes one. */
#define pr_debug(text) do {							\
	static struct { const char *file, *fmt; int line; long key; }		\
		__UNIQUE_ID_ddebug123 __attribute__((section("__dyndbg"), aligned(8))) = { "file.c", text, __LINE__, 0 }; \
	if (__UNIQUE_ID_ddebug123.key) printk(text, &__UNIQUE_ID_ddebug123);	\
} while (0)

/* What the macros of kpatch-macros.h leave behind. */
struct klp_object;
#define note(kind, type, name, value) static type const name used __attribute__((section(".lupatch." kind))) = value
#define callback(kind, fn) note(kind, __typeof__(&fn), note_##fn, fn)
#define ignore_function(fn) note("ignore_function", __typeof__(void *), note_##fn, fn)
#define ignore_section(sec) note("ignore_section", __typeof__(char[sizeof(sec)]), note_section, sec)
#define force_unsafe(fn) note("force_unsafe", __typeof__(void *), note_##fn, fn)

int printk(const char *fmt, ...);
void ext(int);
int ext_value(void);
