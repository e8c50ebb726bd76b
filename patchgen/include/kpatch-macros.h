/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the author of a patch can ask for beyond changed code. Names and
 * arguments are those that kpatch's patch author's guide documents, so that
 * patches written for it build unchanged; what stands behind them is lupatch's
 * own. Each macro leaves a note in a section .lupatch.*, which patchgen reads
 * and which is not part of the update.
 */
#ifndef LUPATCH_KPATCH_MACROS_H
#define LUPATCH_KPATCH_MACROS_H

#include <linux/compiler.h>

struct klp_object;
typedef struct klp_object patch_object;

#ifdef __GENKSYMS__
/*
 * Checksums of exported symbols depend on which structures are defined; the
 * header below would define some that the shipped file only knew by name.
 */
#define LUPATCH_NOTE(kind, type, name, value)
#else
#include <linux/livepatch.h>
#define LUPATCH_NOTE(kind, type, name, value)				\
	static type const name __used __section(".lupatch." kind) = value
#endif

/*
 * Callbacks, at most one of each kind in a file. They get the patched object:
 * obj->name is NULL for vmlinux; obj->mod is the module. A pre-patch callback
 * that does not return 0 refuses the update; what earlier callbacks of the same
 * object did is then undone by their post-unpatch callbacks.
 *
 *   pre-patch     before the first task runs new code
 *   post-patch    when all tasks do
 *   pre-unpatch   before the first task runs old code again
 *   post-unpatch  when all tasks do
 */
#define KPATCH_PRE_PATCH_CALLBACK(fn)					\
	LUPATCH_NOTE("pre_patch", __typeof__(int (*)(patch_object *)), __lupatch_pre_patch, fn)
#define KPATCH_POST_PATCH_CALLBACK(fn)					\
	LUPATCH_NOTE("post_patch", __typeof__(void (*)(patch_object *)), __lupatch_post_patch, fn)
#define KPATCH_PRE_UNPATCH_CALLBACK(fn)					\
	LUPATCH_NOTE("pre_unpatch", __typeof__(void (*)(patch_object *)), __lupatch_pre_unpatch, fn)
#define KPATCH_POST_UNPATCH_CALLBACK(fn)				\
	LUPATCH_NOTE("post_unpatch", __typeof__(void (*)(patch_object *)), __lupatch_post_unpatch, fn)

/* Changes of variables in this section (its name in quotes) keep the running value. */
#define KPATCH_IGNORE_SECTION(sec)					\
	LUPATCH_NOTE("ignore_section", __typeof__(char[sizeof(sec)]), __UNIQUE_ID(lupatch_section), sec)

/* A change of this function is left out. */
#define KPATCH_IGNORE_FUNCTION(fn)					\
	LUPATCH_NOTE("ignore_function", __typeof__(void *), __UNIQUE_ID(lupatch_function), fn)

/*
 * kpatch's own core could leave a function out of its look at the stacks. The
 * livepatch core cannot: this only leaves a point to review.
 */
#define KPATCH_FORCE_UNSAFE(fn)						\
	LUPATCH_NOTE("force_unsafe", __typeof__(void *), __UNIQUE_ID(lupatch_unsafe), fn)

/* printk() without an entry in the kernel's index of messages. */
#define KPATCH_PRINTK(fmt, ...) _printk(fmt, ##__VA_ARGS__)

/*
 * A static call through its key's pointer, for keys that a module owns: the
 * kernel looks at the places of direct ones before it knows of those.
 */
#define KPATCH_STATIC_CALL(name)					\
	((__typeof__(&STATIC_CALL_TRAMP(name)))READ_ONCE(STATIC_CALL_KEY(name).func))

#endif
