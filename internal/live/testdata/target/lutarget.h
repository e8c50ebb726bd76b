/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef LUTARGET_H
#define LUTARGET_H

#include <linux/types.h>

struct proc_dir_entry;

/* A number that the compiler cannot know. */
extern int lutarget_one;

int lutarget_b_init(struct proc_dir_entry *dir);
int lutarget_c_init(struct proc_dir_entry *dir);

#endif
