// SPDX-License-Identifier: GPL-2.0-only
/*
 * The fixed part of every livepatch that lupatch builds. The tables come from
 * the generated header: which functions to redirect, and what the code they
 * stand for has to look like.
 */
#include <linux/init.h>
#include <linux/kernel.h>
#include <linux/livepatch.h>
#include <linux/module.h>
#include <linux/rcupdate.h>
#include <linux/string.h>
#include <linux/utsname.h>

struct lupatch_range {
	u32 from;
	u32 to;
};

/* The code of one function as it was verified when the update was built. */
struct lupatch_code {
	u64 sum;
	u32 size;
	u32 nr_masks;
	const struct lupatch_range *masks;
};

#include "lupatch_callbacks.h"
#include "lupatch_data.h"

/* What belongs to the object at the same place of lupatch_objects. */
struct lupatch_target {
	const struct lupatch_code *code;
	const struct lupatch_callbacks *callbacks;
	const struct lupatch_write *writes;
	unsigned int nr_callbacks;
	unsigned int nr_writes;
};

#include "lupatch_tables.h"

#define FNV64_OFFSET	0xcbf29ce484222325ULL
#define FNV64_PRIME	0x100000001b3ULL

static u64 lupatch_fnv(u64 sum, const u8 *p, u32 len)
{
	while (len--)
		sum = (sum ^ *p++) * FNV64_PRIME;
	return sum;
}

static bool lupatch_same_code(const u8 *text, const struct lupatch_code *c)
{
	u64 sum = FNV64_OFFSET;
	u32 at = 0, i;

	for (i = 0; i < c->nr_masks; i++) {
		sum = lupatch_fnv(sum, text + at, c->masks[i].from - at);
		at = c->masks[i].to;
	}
	sum = lupatch_fnv(sum, text + at, c->size - at);
	return sum == c->sum;
}

static const struct lupatch_target *lupatch_target(struct klp_object *obj)
{
	return &lupatch_targets[obj - lupatch_objects];
}

/*
 * Livepatch finds modules by name only. Comparing the code covers what the
 * tool cannot see: plain insmod, a target that is loaded later, a target that
 * was rebuilt. Where relocations in this module cannot be cleared, a target
 * that went away could not be loaded again, so it is pinned as long as it is
 * patched; lupatch_post_unpatch() runs if and only if this returned 0.
 */
static int lupatch_pre_patch(struct klp_object *obj)
{
	const struct lupatch_target *target = lupatch_target(obj);
	const char *name = obj->name ? obj->name : "vmlinux";
	unsigned int i;
	int ret;

	ret = lupatch_data_possible(obj, target->nr_writes);
	if (ret)
		return ret;

	for (i = 0; obj->funcs[i].old_name; i++) {
		if (lupatch_same_code(obj->funcs[i].old_func, &target->code[i]))
			continue;
		pr_err("%s: %s: the code of %s is not what this update was verified against, refusing\n",
		       THIS_MODULE->name, name, obj->funcs[i].old_name);
		return -ENOEXEC;
	}
#ifdef LUPATCH_PIN_TARGETS
	if (obj->name && !try_module_get(obj->mod)) {
		pr_err("%s: %s is going away, refusing\n", THIS_MODULE->name, name);
		return -ENODEV;
	}
#endif
	ret = lupatch_call_pre_patch(target->callbacks, target->nr_callbacks, obj);
	if (!ret) {
		lupatch_data(target->writes, target->nr_writes, false, false);
		return 0;
	}
#ifdef LUPATCH_PIN_TARGETS
	if (obj->name)
		module_put(obj->mod);
#endif
	return ret;
}

static void lupatch_post_patch(struct klp_object *obj)
{
	const struct lupatch_target *target = lupatch_target(obj);

	lupatch_data(target->writes, target->nr_writes, true, false);
	lupatch_call_post_patch(target->callbacks, target->nr_callbacks, obj);
}

static void lupatch_pre_unpatch(struct klp_object *obj)
{
	const struct lupatch_target *target = lupatch_target(obj);

	lupatch_call_pre_unpatch(target->callbacks, target->nr_callbacks, obj);
	lupatch_data(target->writes, target->nr_writes, true, true);
}

static void lupatch_post_unpatch(struct klp_object *obj)
{
	const struct lupatch_target *target = lupatch_target(obj);

	lupatch_data(target->writes, target->nr_writes, false, true);
	lupatch_call_post_unpatch(target->callbacks, target->nr_callbacks, obj);
#ifdef LUPATCH_PIN_TARGETS
	if (obj->name)
		module_put(obj->mod);
#endif
}

static struct klp_patch lupatch_patch = {
	.mod = THIS_MODULE,
	.objs = lupatch_objects,
};

/*
 * With modversions the kernel accepts modules of other releases whose symbols
 * have the same checksums.
 */
static int __init lupatch_init(void)
{
	unsigned int i;

	if (strcmp(init_utsname()->release, LUPATCH_RELEASE)) {
		pr_err("%s: built for kernel %s, refusing\n", THIS_MODULE->name, LUPATCH_RELEASE);
		return -ENOEXEC;
	}
	for (i = 0; i < ARRAY_SIZE(lupatch_targets); i++) {
		const char *name = lupatch_objects[i].name;

		if (!name || !lupatch_targets[i].nr_writes || lupatch_is_live(name))
			continue;
		pr_err("%s: %s: this update writes variables of the module, which is not loaded, refusing\n", THIS_MODULE->name, name);
		return -ENODEV;
	}
	return klp_enable_patch(&lupatch_patch);
}
module_init(lupatch_init);

#ifndef LUPATCH_STAYS
/*
 * Only an update from which no address escapes has an exit function; the
 * kernel never unloads a module without one. Callbacks of RCU and tasks that
 * were preempted in this code have to be through before it is freed.
 */
static void __exit lupatch_exit(void)
{
	rcu_barrier();
#ifdef CONFIG_TASKS_RCU
	synchronize_rcu_tasks();
#endif
}
module_exit(lupatch_exit);
#endif

MODULE_DESCRIPTION("live update built by lupatch");
MODULE_LICENSE("GPL");
MODULE_INFO(livepatch, "Y");
MODULE_INFO(lupatch, "1");
