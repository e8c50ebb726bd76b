/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * New values of variables of the running kernel. What is found is kept and put
 * back; a part that somebody else has changed meanwhile is left as it is.
 */
#include <linux/cpu.h>
#include <linux/mm.h>
#include <linux/mutex.h>
#include <linux/stop_machine.h>

#include "lupatch_config.h"

/* A part of a variable, and room for what is found there. */
struct lupatch_part {
	u32 from;
	u32 size;
	u8 *found;
	bool written;
};

/* The new value: the variable's address, then its bytes. */
struct lupatch_value {
	u8 *at;
	u8 bytes[];
};

struct lupatch_write {
	const char *name;
	const struct lupatch_value *value;
	struct lupatch_part *parts;
	u32 nr_parts;
	bool read_only;
	bool post;
};

/* Writes what a reader may load at once in one store. */
static void lupatch_store(u8 *at, const u8 *from, u32 size)
{
	unsigned long align = (unsigned long)at | size;

	if (size == 8 && !(align & 7))
		WRITE_ONCE(*(u64 *)at, *(const u64 *)from);
	else if (size == 4 && !(align & 3))
		WRITE_ONCE(*(u32 *)at, *(const u32 *)from);
	else if (size == 2 && !(align & 1))
		WRITE_ONCE(*(u16 *)at, *(const u16 *)from);
	else
		memcpy(at, from, size);
}

#ifdef LUPATCH_READ_ONLY
/*
 * Neither is exported; names with this prefix are resolved as livepatch
 * symbols of vmlinux.
 */
extern struct mutex lupatch_kernel_text_mutex;
extern void *lupatch_kernel_text_poke(void *addr, const void *from, size_t len);
extern int lupatch_kernel_stop_machine_cpuslocked(int (*fn)(void *), void *arg, const struct cpumask *cpus);

/* text_poke() maps two pages at most. */
static void lupatch_poke(u8 *at, const u8 *from, u32 size)
{
	while (size) {
		u32 n = min_t(u32, size, PAGE_SIZE - offset_in_page(at));

		lupatch_kernel_text_poke(at, from, n);
		at += n;
		from += n;
		size -= n;
	}
}
#endif

static void lupatch_put(const struct lupatch_write *w, u8 *at, const u8 *from, u32 size)
{
#ifdef LUPATCH_READ_ONLY
	if (w->read_only) {
		lupatch_poke(at, from, size);
		return;
	}
#endif
	lupatch_store(at, from, size);
}

/* One pass over the variables of an object. */
struct lupatch_pass {
	const struct lupatch_write *writes;
	unsigned int nr;
	bool post, restore, read_only;
};

static void lupatch_write_part(const struct lupatch_write *w, struct lupatch_part *p)
{
	u8 *at = w->value->at + p->from;

	memcpy(p->found, at, p->size);
	lupatch_put(w, at, w->value->bytes + p->from, p->size);
	p->written = true;
}

static void lupatch_restore_part(const struct lupatch_write *w, struct lupatch_part *p)
{
	u8 *at = w->value->at + p->from;

	if (!p->written)
		return;
	p->written = false;
	if (memcmp(at, w->value->bytes + p->from, p->size))
		return; /* not ours any more */
	lupatch_put(w, at, p->found, p->size);
}

static int lupatch_run_pass(void *arg)
{
	const struct lupatch_pass *pass = arg;
	unsigned int i, j;

	for (i = 0; i < pass->nr; i++) {
		const struct lupatch_write *w = &pass->writes[i];

		if (w->post != pass->post || w->read_only != pass->read_only)
			continue;
		for (j = 0; j < w->nr_parts; j++) {
			if (pass->restore)
				lupatch_restore_part(w, &w->parts[j]);
			else
				lupatch_write_part(w, &w->parts[j]);
		}
	}
	return 0;
}

#ifdef LUPATCH_READ_ONLY
static bool lupatch_any(const struct lupatch_pass *pass)
{
	unsigned int i;

	for (i = 0; i < pass->nr; i++)
		if (pass->writes[i].post == pass->post && pass->writes[i].read_only == pass->read_only)
			return true;
	return false;
}
#endif

/*
 * Read-only variables are written by text_poke(), which copies bytes: nobody
 * may read half of a pointer, so that all other processors stand still
 * meanwhile. The locks are taken in the order of the jump label code.
 */
static void lupatch_data(const struct lupatch_write *writes, unsigned int nr, bool post, bool restore)
{
	struct lupatch_pass pass = { .writes = writes, .nr = nr, .post = post, .restore = restore };

	lupatch_run_pass(&pass);
#ifdef LUPATCH_READ_ONLY
	pass.read_only = true;
	if (!lupatch_any(&pass))
		return;
	cpus_read_lock();
	mutex_lock(&lupatch_kernel_text_mutex);
	lupatch_kernel_stop_machine_cpuslocked(lupatch_run_pass, &pass, NULL);
	mutex_unlock(&lupatch_kernel_text_mutex);
	cpus_read_unlock();
#endif
}

/*
 * A module that is loading is about to run its own initialisation, which may
 * have taken the shipped values for granted.
 */
static int lupatch_data_possible(struct klp_object *obj, unsigned int nr)
{
	if (!nr || !obj->name || obj->mod->state == MODULE_STATE_LIVE)
		return 0;
	pr_err("%s: %s: this update writes variables of a module that runs; disable it to load the module, and enable it again\n",
	       THIS_MODULE->name, obj->name);
	return -EBUSY;
}

#ifdef LUPATCH_MODULE_DATA
extern struct module *lupatch_kernel_find_module(const char *name);

/* Says whether a module is there and has been initialised. */
static bool lupatch_is_live(const char *name)
{
	struct module *mod;
	bool live;

	rcu_read_lock_sched();
	mod = lupatch_kernel_find_module(name);
	live = mod && mod->state == MODULE_STATE_LIVE;
	rcu_read_unlock_sched();
	return live;
}
#else
static bool lupatch_is_live(const char *name)
{
	return true;
}
#endif
