/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Definitions of system calls in patches written for kpatch. lupatch carries a
 * changed system call as the kernel defines it: what SYSCALL_DEFINEn says about
 * the call for tracing is in the running kernel and stays. So these are other
 * names for the same, given without parameters, so that nothing in the
 * arguments is expanded earlier than it would be there.
 */
#ifndef LUPATCH_KPATCH_SYSCALL_H
#define LUPATCH_KPATCH_SYSCALL_H

#include <linux/syscalls.h>
#include "kpatch-macros.h"

#define KPATCH_SYSCALL_DEFINE1 SYSCALL_DEFINE1
#define KPATCH_SYSCALL_DEFINE2 SYSCALL_DEFINE2
#define KPATCH_SYSCALL_DEFINE3 SYSCALL_DEFINE3
#define KPATCH_SYSCALL_DEFINE4 SYSCALL_DEFINE4
#define KPATCH_SYSCALL_DEFINE5 SYSCALL_DEFINE5
#define KPATCH_SYSCALL_DEFINE6 SYSCALL_DEFINE6

#endif
