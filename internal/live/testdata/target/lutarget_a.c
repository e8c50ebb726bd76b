// SPDX-License-Identifier: GPL-2.0-only
/*
 * A module to be updated by tests: every file in /proc/lutarget is one function
 * that some update replaces.
 */
#include <linux/module.h>
#include <linux/proc_fs.h>
#include <linux/sched.h>
#include <linux/seq_file.h>
#include <linux/wait.h>
#include <linux/workqueue.h>

#include "lutarget.h"

#define LUTARGET_VALUE 11

int lutarget_one = 1;
module_param_named(one, lutarget_one, int, 0644);

/* Code of the updates sleeps in this queue until the parameter go is set. */
static DECLARE_WAIT_QUEUE_HEAD(lutarget_gate);
static bool lutarget_go;

static int lutarget_set_go(const char *val, const struct kernel_param *kp)
{
	int ret = param_set_bool(val, kp);

	wake_up_all(&lutarget_gate);
	return ret;
}

static const struct kernel_param_ops lutarget_go_ops = {
	.set = lutarget_set_go,
	.get = param_get_bool,
};
module_param_cb(go, &lutarget_go_ops, &lutarget_go, 0644);

/* lutarget_b.c has two functions and a variable of the same names. */
static int twin_base;

static noinline int twin_part(int n)
{
	return twin_base + n;
}

static noinline int twin(int n)
{
	return 2 * twin_part(n);
}

static int twin_a_show(struct seq_file *m, void *v)
{
	seq_printf(m, "twin %d\n", twin(READ_ONCE(lutarget_one)));
	return 0;
}

static noinline int lutarget_value(int n)
{
	return n * LUTARGET_VALUE;
}

static int value_show(struct seq_file *m, void *v)
{
	seq_printf(m, "value %d\n", lutarget_value(READ_ONCE(lutarget_one)));
	return 0;
}

static int helper_show(struct seq_file *m, void *v)
{
	seq_printf(m, "helper %d\n", READ_ONCE(lutarget_one));
	return 0;
}

static int tail_show(struct seq_file *m, void *v)
{
	seq_printf(m, "tail %d\n", READ_ONCE(lutarget_one));
	return 0;
}

static int cold_show(struct seq_file *m, void *v)
{
	seq_printf(m, "cold %d\n", READ_ONCE(lutarget_one));
	return 0;
}

static int work_show(struct seq_file *m, void *v)
{
	seq_printf(m, "work %d\n", READ_ONCE(lutarget_one));
	return 0;
}

/* The shipped function that other updates find a task asleep in. */
static int shipped_show(struct seq_file *m, void *v)
{
	wait_event_idle(lutarget_gate, READ_ONCE(lutarget_go));
	seq_puts(m, "shipped\n");
	return 0;
}

static struct proc_dir_entry *lutarget_dir;

static int __init lutarget_init(void)
{
	twin_base = 100;
	lutarget_dir = proc_mkdir("lutarget", NULL);
	if (!lutarget_dir)
		return -ENOMEM;
	if (!proc_create_single("twin_a", 0, lutarget_dir, twin_a_show) ||
	    !proc_create_single("value", 0, lutarget_dir, value_show) ||
	    !proc_create_single("helper", 0, lutarget_dir, helper_show) ||
	    !proc_create_single("tail", 0, lutarget_dir, tail_show) ||
	    !proc_create_single("cold", 0, lutarget_dir, cold_show) ||
	    !proc_create_single("work", 0, lutarget_dir, work_show) ||
	    !proc_create_single("shipped", 0, lutarget_dir, shipped_show) ||
	    lutarget_b_init(lutarget_dir)) {
		proc_remove(lutarget_dir);
		return -ENOMEM;
	}
	return 0;
}
module_init(lutarget_init);

static void __exit lutarget_exit(void)
{
	proc_remove(lutarget_dir);
}
module_exit(lutarget_exit);

MODULE_DESCRIPTION("target of lupatch's tests");
MODULE_LICENSE("GPL");
