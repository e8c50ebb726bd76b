// SPDX-License-Identifier: GPL-2.0-only
/*
 * A module with functions that tasks are inside of. Reading N bytes of a file in
 * /proc/lubusy takes N milliseconds, within the function of the file's name. A
 * thread of its own is in lubusy_loop() for ever.
 */
#include <linux/delay.h>
#include <linux/kthread.h>
#include <linux/module.h>
#include <linux/proc_fs.h>
#include <linux/sched.h>
#include <linux/wait.h>

/* A number that the compiler cannot know. */
static int lubusy_one = 1;
module_param_named(one, lubusy_one, int, 0644);

/* What sleeps at the gate is let go by the parameter open. */
static DECLARE_WAIT_QUEUE_HEAD(lubusy_gate);
static bool lubusy_open;

static int lubusy_set_open(const char *val, const struct kernel_param *kp)
{
	int ret = param_set_bool(val, kp);

	wake_up_all(&lubusy_gate);
	return ret;
}

static const struct kernel_param_ops lubusy_open_ops = {
	.set = lubusy_set_open,
	.get = param_get_bool,
};
module_param_cb(open, &lubusy_open_ops, &lubusy_open, 0644);

/* Never replaced: it is in the middle of every stack. */
static noinline int lubusy_sleep(size_t ms)
{
	msleep_interruptible(ms);
	return READ_ONCE(lubusy_one);
}

static noinline int lubusy_inner(size_t ms)
{
	return 2 * lubusy_sleep(ms);
}

static noinline int lubusy_first(size_t ms)
{
	return 10 + lubusy_inner(ms);
}

static noinline int lubusy_second(size_t ms)
{
	return 20 + lubusy_sleep(ms);
}

static noinline int lubusy_other(size_t ms)
{
	return 30 + lubusy_inner(ms);
}

static ssize_t first_read(struct file *file, char __user *buf, size_t n, loff_t *pos)
{
	return lubusy_first(n) > 0 ? 0 : -EIO;
}

static ssize_t second_read(struct file *file, char __user *buf, size_t n, loff_t *pos)
{
	return lubusy_second(n) > 0 ? 0 : -EIO;
}

static ssize_t other_read(struct file *file, char __user *buf, size_t n, loff_t *pos)
{
	return lubusy_other(n) > 0 ? 0 : -EIO;
}

static noinline int lubusy_value(int n)
{
	return n * 11;
}

static ssize_t value_read(struct file *file, char __user *buf, size_t n, loff_t *pos)
{
	char text[16];
	int len = scnprintf(text, sizeof(text), "%d\n", lubusy_value(READ_ONCE(lubusy_one)));

	return simple_read_from_buffer(buf, n, pos, text, len);
}

static const struct proc_ops first_ops = { .proc_read = first_read };
static const struct proc_ops second_ops = { .proc_read = second_read };
static const struct proc_ops other_ops = { .proc_read = other_read };
static const struct proc_ops value_ops = { .proc_read = value_read };

static int lubusy_rounds;
module_param_named(rounds, lubusy_rounds, int, 0444);

/* Returns when its thread is to end, and not before. */
static noinline void lubusy_loop(void)
{
	while (!kthread_should_stop()) {
		wait_event_interruptible(lubusy_gate, kthread_should_stop() || READ_ONCE(lubusy_open));
		lubusy_rounds++;
		if (READ_ONCE(lubusy_open))
			return;
	}
}

static int lubusy_thread(void *unused)
{
	while (!kthread_should_stop()) {
		lubusy_loop();
		/* While the gate is open it is outside of the loop most of the time. */
		msleep_interruptible(100);
	}
	return 0;
}

static struct proc_dir_entry *lubusy_dir;
static struct task_struct *lubusy_task;

static int __init lubusy_init(void)
{
	lubusy_dir = proc_mkdir("lubusy", NULL);
	if (!lubusy_dir)
		return -ENOMEM;
	if (!proc_create("first", 0444, lubusy_dir, &first_ops) ||
	    !proc_create("second", 0444, lubusy_dir, &second_ops) ||
	    !proc_create("other", 0444, lubusy_dir, &other_ops) ||
	    !proc_create("value", 0444, lubusy_dir, &value_ops))
		goto fail;
	lubusy_task = kthread_run(lubusy_thread, NULL, "lubusy");
	if (!IS_ERR(lubusy_task))
		return 0;
fail:
	proc_remove(lubusy_dir);
	return -ENOMEM;
}
module_init(lubusy_init);

static void __exit lubusy_exit(void)
{
	kthread_stop(lubusy_task);
	proc_remove(lubusy_dir);
}
module_exit(lubusy_exit);

MODULE_DESCRIPTION("functions with tasks inside, for lupatch's tests");
MODULE_LICENSE("GPL");
