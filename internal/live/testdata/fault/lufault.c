// SPDX-License-Identifier: GPL-2.0-only
/*
 * A module that does what a kernel complains of: a word written to
 * /sys/module/lufault/parameters/do says what.
 */
#include <linux/atomic.h>
#include <linux/delay.h>
#include <linux/list.h>
#include <linux/module.h>
#include <linux/refcount.h>
#include <linux/sched.h>
#include <linux/slab.h>
#include <linux/smp.h>
#include <linux/spinlock.h>
#include <linux/timer.h>
#include <linux/wait.h>

static int fault_seconds = 5;
module_param_named(seconds, fault_seconds, int, 0644);

static noinline void fault_warn(void)
{
	WARN(1, "lufault: a warning with a text\n");
}

static noinline void fault_warn_bare(void)
{
	WARN_ON(fault_seconds);
}

static noinline void fault_null(void)
{
	int *p = NULL;

	OPTIMIZER_HIDE_VAR(p);
	WRITE_ONCE(*p, 1);
}

static noinline void fault_call(void)
{
	void (*f)(void) = NULL;

	OPTIMIZER_HIDE_VAR(f);
	f();
	barrier();
}

static noinline void fault_wild(void)
{
	int *p = (int *)0xdead000000000100ul;

	OPTIMIZER_HIDE_VAR(p);
	WRITE_ONCE(*p, 1);
}

static noinline void fault_bug(void)
{
	BUG_ON(fault_seconds);
}

static noinline void fault_divide(void)
{
	int zero = 0;

	OPTIMIZER_HIDE_VAR(zero);
	WRITE_ONCE(fault_seconds, READ_ONCE(fault_seconds) / zero);
}

static noinline void fault_list(void)
{
	struct list_head head, *lost = kmalloc(sizeof(*lost), GFP_KERNEL);

	INIT_LIST_HEAD(&head);
	if (!lost)
		return;
	INIT_LIST_HEAD(lost);
	head.next = lost;
	list_add_tail(lost, &head);
	kfree(lost);
}

static noinline void fault_refcount(void)
{
	refcount_t r = REFCOUNT_INIT(0);

	refcount_inc(&r);
}

static noinline void fault_atomic(void)
{
	preempt_disable();
	msleep(20);
	preempt_enable();
}

/* Longer than the lockup detectors wait, however they are set. */
static noinline void fault_spin(void)
{
	unsigned long end = jiffies + fault_seconds * HZ;

	preempt_disable();
	while (time_before(jiffies, end))
		cpu_relax();
	preempt_enable();
}

static DECLARE_WAIT_QUEUE_HEAD(fault_gate);
static bool fault_go;

static noinline void fault_wait(void)
{
	wait_event_timeout(fault_gate, READ_ONCE(fault_go), fault_seconds * HZ);
}

static void fault_timer_fn(struct timer_list *t)
{
	WARN(1, "lufault: a warning in a timer\n");
}
static DEFINE_TIMER(fault_timer, fault_timer_fn);

/* The processor that a busy task is on takes the interrupt. */
static noinline void fault_interrupt(void)
{
	unsigned long end = jiffies + HZ / 5;

	mod_timer(&fault_timer, jiffies + 1);
	while (time_before(jiffies, end))
		cpu_relax();
}

static const struct {
	const char *name;
	void (*f)(void);
} faults[] = {
	{ "warn", fault_warn },
	{ "warn_bare", fault_warn_bare },
	{ "null", fault_null },
	{ "call", fault_call },
	{ "wild", fault_wild },
	{ "bug", fault_bug },
	{ "divide", fault_divide },
	{ "list", fault_list },
	{ "refcount", fault_refcount },
	{ "atomic", fault_atomic },
	{ "spin", fault_spin },
	{ "wait", fault_wait },
	{ "interrupt", fault_interrupt },
};

static int fault_set(const char *val, const struct kernel_param *kp)
{
	int i;

	for (i = 0; i < ARRAY_SIZE(faults); i++) {
		if (sysfs_streq(val, faults[i].name)) {
			/* The lock of the parameters must not stay behind with an Oops. */
			kernel_param_unlock(THIS_MODULE);
			faults[i].f();
			kernel_param_lock(THIS_MODULE);
			return 0;
		}
	}
	return -EINVAL;
}

static const struct kernel_param_ops fault_ops = { .set = fault_set };
module_param_cb(do, &fault_ops, NULL, 0200);

static int __init fault_init(void)
{
	return 0;
}
module_init(fault_init);

static void __exit fault_exit(void)
{
	del_timer_sync(&fault_timer);
}
module_exit(fault_exit);

MODULE_DESCRIPTION("faults for lupatch's tests");
MODULE_LICENSE("GPL");
