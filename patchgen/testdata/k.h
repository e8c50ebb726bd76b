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

int printk(const char *fmt, ...);
void ext(int);
int ext_value(void);
