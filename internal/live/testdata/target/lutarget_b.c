// SPDX-License-Identifier: GPL-2.0-only
/* The second of each of the twins. */
#include <linux/module.h>
#include <linux/proc_fs.h>
#include <linux/seq_file.h>

#include "lutarget.h"

static int twin_base;

static noinline int twin_part(int n)
{
	return twin_base + n;
}

static noinline int twin(int n)
{
	return 3 * twin_part(n);
}

static int twin_b_show(struct seq_file *m, void *v)
{
	seq_printf(m, "twin %d\n", twin(READ_ONCE(lutarget_one)));
	return 0;
}

int lutarget_b_init(struct proc_dir_entry *dir)
{
	twin_base = 200;
	return proc_create_single("twin_b", 0, dir, twin_b_show) ? lutarget_c_init(dir) : -ENOMEM;
}
