// SPDX-License-Identifier: GPL-2.0-only
/*
 * The gate: hooks on kernel functions by ftrace. The callback decides whether a
 * call concerns us; every other call goes on into the original, so that no foreign
 * task ever sleeps with our text on its stack.
 *
 * A hook calls its original at the entry, with a mark for its task that the callback
 * takes away and honours. Jumping behind the ftrace site would miss the ENDBR on
 * processors with IBT, and a mark by return address would not see tail calls.
 */
#include <linux/delay.h>
#include <linux/rcupdate.h>

#include "shadow.h"

#define MARKS 64

static struct pass_mark {
	struct task_struct *task;
	unsigned long ip;
} marks[MARKS];
static atomic_t n_marks = ATOMIC_INIT(0);
static atomic_t inside = ATOMIC_INIT(0);	/* calls of hooks under way */

/* The next call of the function that h hooks is let through for this task. */
void lu_pass(enum lu_hook_index h)
{
	unsigned long ip = lu_hooks[h].ip;
	unsigned int i;

	atomic_inc(&n_marks);
	/* A mark lives from here to the entry of the original: a slot is free soon. */
	for (i = 0;; i = (i + 1) % MARKS) {
		if (!READ_ONCE(marks[i].task) && !cmpxchg(&marks[i].task, NULL, current)) {
			WRITE_ONCE(marks[i].ip, ip);
			return;
		}
		cpu_relax();
	}
}

static bool notrace passes(unsigned long ip)
{
	unsigned int i;

	if (!atomic_read(&n_marks))
		return false;
	for (i = 0; i < MARKS; i++) {
		if (READ_ONCE(marks[i].task) != current || READ_ONCE(marks[i].ip) != ip)
			continue;
		WRITE_ONCE(marks[i].ip, 0);
		smp_store_release(&marks[i].task, NULL);
		atomic_dec(&n_marks);
		return true;
	}
	return false;
}

/* Every hook that may sleep, or that is in use while the module is idle, ends with
 * this: the module is not unloaded while one is under way. */
void lu_hook_done(void)
{
	atomic_dec(&inside);
}

static void notrace callback(unsigned long ip, unsigned long parent_ip,
			     struct ftrace_ops *ops, struct ftrace_regs *regs)
{
	unsigned int i;

	for (i = 0; i < lu_n_hooks; i++) {
		if (lu_hooks[i].ip != ip)
			continue;
		if (passes(ip) || !lu_hooks[i].match(regs) || !lu_hooks[i].fn)
			return;
		atomic_inc(&inside);
		ftrace_instruction_pointer_set(regs, (unsigned long)lu_hooks[i].fn);
		return;
	}
}

#define OPS { .func = callback, .flags = FTRACE_OPS_FL_IPMODIFY | FTRACE_OPS_FL_PERMANENT }
static struct ftrace_ops ops[] = {
	[LU_WHEN_LOADED] = OPS, [LU_WHEN_MARKED] = OPS, [LU_WHEN_SESSION] = OPS,
};
static bool open[ARRAY_SIZE(ops)];
static DEFINE_MUTEX(gate_lock);

int lu_gate_open(enum lu_when when)
{
	int err = 0;

	mutex_lock(&gate_lock);
	if (!open[when])
		err = register_ftrace_function(&ops[when]);
	open[when] = open[when] || !err;
	mutex_unlock(&gate_lock);
	return err;
}

/* Afterwards nobody is in a hook, nor about to return from one. */
void lu_gate_close(enum lu_when when)
{
	mutex_lock(&gate_lock);
	if (open[when])
		unregister_ftrace_function(&ops[when]);
	open[when] = false;
	mutex_unlock(&gate_lock);
}

int lu_gate_init(void)
{
	unsigned int i;
	int err;

	for (i = 0; i < lu_n_hooks; i++) {
		struct lu_hook *h = &lu_hooks[i];
		unsigned long addr = lu_symbol(h->name);

		h->ip = addr ? lu_sym.ftrace_location(addr) : 0;
		if (!h->ip && h->optional)
			continue;
		if (!h->ip) {
			pr_err("%s has no ftrace site in this kernel\n", h->name);
			return -ENOENT;
		}
		/* Set once and for all: on 6.1 ftrace_free_filter() leaves the ops with
		 * hashes that are freed, and a second registration would use them. */
		err = ftrace_set_filter_ip(&ops[h->when], h->ip, 0, 0);
		if (err) {
			pr_err("hooking %s: %d\n", h->name, err);
			return err;
		}
	}
	return 0;
}

void lu_gate_exit(void)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(ops); i++)
		lu_gate_close(i);
	/* Hooks that sleep (memory for a net_device) come back by themselves. */
	while (atomic_read(&inside))
		msleep(20);
	/* They count themselves out just before they return. */
	synchronize_rcu_tasks();
	for (i = 0; i < ARRAY_SIZE(ops); i++)
		ftrace_free_filter(&ops[i]);
}

void lu_gate_hello(struct lu_hello *h)
{
	unsigned int i;

	h->hooks = min_t(unsigned int, lu_n_hooks, LU_HOOKS_MAX);
	for (i = 0; i < h->hooks; i++) {
		strscpy(h->hook[i].name, lu_hooks[i].name, sizeof(h->hook[i].name));
		h->hook[i].when = lu_hooks[i].when;
		h->hook[i].enabled = lu_hooks[i].ip && open[lu_hooks[i].when];
	}
}
