// SPDX-License-Identifier: GPL-2.0-only
/* Does what the debug kernel has to notice. */

#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/slab.h>

static bool inversion;
module_param(inversion, bool, 0);
MODULE_PARM_DESC(inversion, "take two locks in both orders");

static bool after_free;
module_param(after_free, bool, 0);
MODULE_PARM_DESC(after_free, "read memory that has been freed");

static DEFINE_MUTEX(first);
static DEFINE_MUTEX(second);

static noinline void control_inversion(void)
{
	mutex_lock(&first);
	mutex_lock(&second);
	mutex_unlock(&second);
	mutex_unlock(&first);

	mutex_lock(&second);
	mutex_lock(&first);
	mutex_unlock(&first);
	mutex_unlock(&second);
}

static noinline void control_after_free(void)
{
	char *memory = kmalloc(100, GFP_KERNEL);

	if (!memory)
		return;
	/* Keeps the compiler from knowing what it points at. */
	OPTIMIZER_HIDE_VAR(memory);
	kfree(memory);
	pr_info("control: read %d\n", READ_ONCE(memory[50]));
}

static int __init control_init(void)
{
	if (inversion)
		control_inversion();
	if (after_free)
		control_after_free();
	return 0;
}

static void __exit control_exit(void)
{
}

module_init(control_init);
module_exit(control_exit);

MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("Faults that the debug kernel has to notice");
