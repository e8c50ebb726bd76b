// SPDX-License-Identifier: GPL-2.0-only
/* A livepatch that lupatch did not make. */
#include <linux/livepatch.h>
#include <linux/module.h>

static int foreign_value(int n)
{
	return 99;
}

static struct klp_func funcs[] = {
	{ .old_name = "lutarget_value", .new_func = foreign_value },
	{ }
};

static struct klp_object objs[] = {
	{ .name = "lutarget", .funcs = funcs },
	{ }
};

static struct klp_patch patch = {
	.mod = THIS_MODULE,
	.objs = objs,
};

static int __init foreign_init(void)
{
	return klp_enable_patch(&patch);
}
module_init(foreign_init);

static void __exit foreign_exit(void)
{
}
module_exit(foreign_exit);

MODULE_DESCRIPTION("foreign livepatch of lupatch's tests");
MODULE_LICENSE("GPL");
MODULE_INFO(livepatch, "Y");
