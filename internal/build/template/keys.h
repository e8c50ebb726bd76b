/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Makes branches on static keys read the key.
 *
 * The kernel writes such branches into code when it loads a module, before it
 * has resolved the symbols of modules that the module patches. A branch on a key
 * of such a module would therefore never be set up. This file is included before
 * all others; the architecture's functions are defined first and then hidden.
 */
struct static_key;
struct jump_entry;
#include <asm/jump_label.h>

/*
 * -1 means that the key is just being enabled, as in static_key_count(). A
 * branch is taken if the key's state differs from the state it was compiled for.
 */
#define lupatch_key_enabled(key) \
	(*(const volatile int *)&(key)->enabled.counter != 0)
#define arch_static_branch(key, branch) (lupatch_key_enabled(key) != !!(branch))
#define arch_static_branch_jump(key, branch) arch_static_branch(key, branch)
