// SPDX-License-Identifier: GPL-2.0-only
/* Variables of which updates change the initial values. */
#include <linux/module.h>
#include <linux/proc_fs.h>
#include <linux/seq_file.h>

#include "lutarget.h"

static int data_limit __read_mostly = 10;
module_param_named(limit, data_limit, int, 0644);

static char data_label[16] = "shipped";

/* A member that lives beside one that a patch changes. */
static struct {
	int step;
	int shown;
} data_state = { .step = 1 };

struct data_op {
	const char *name;
	int (*get)(int n);
};

static int data_plus(int n)
{
	return n + READ_ONCE(lutarget_one);
}

static int data_minus(int n)
{
	return n - READ_ONCE(lutarget_one);
}

static const struct data_op data_ops[] = {
	{ "plus", data_plus },
	{ "minus", data_minus },
};

static int data_show(struct seq_file *m, void *v)
{
	unsigned int i;

	data_state.shown += data_state.step;
	seq_printf(m, "limit %d label %s", READ_ONCE(data_limit), data_label);
	for (i = 0; i < ARRAY_SIZE(data_ops); i++) {
		const struct data_op *op = &data_ops[i];

		OPTIMIZER_HIDE_VAR(op);
		seq_printf(m, " %s %d", op->name, op->get(100));
	}
	seq_printf(m, "\n");
	return 0;
}

static int shown_show(struct seq_file *m, void *v)
{
	seq_printf(m, "step %d shown %d\n", READ_ONCE(data_state.step), READ_ONCE(data_state.shown));
	return 0;
}

int lutarget_c_init(struct proc_dir_entry *dir)
{
	if (!proc_create_single("data", 0, dir, data_show) || !proc_create_single("shown", 0, dir, shown_show))
		return -ENOMEM;
	return 0;
}
