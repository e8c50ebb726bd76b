// SPDX-License-Identifier: GPL-2.0-only
/*
 * Symbols that the kernel does not export, and where a call comes from.
 */
#include <linux/kallsyms.h>
#include <linux/kprobes.h>
#include <linux/stacktrace.h>

#include "shadow.h"

struct lu_symbols lu_sym;

static unsigned long (*lookup_name)(const char *name);
static int (*lookup_size)(unsigned long addr, unsigned long *size, unsigned long *offset);

/* Functions that are on the stack of every driver's probe: the first in the task
 * that binds, the second where PCI probes on the device's own node (work_on_cpu). */
static struct lu_range probing[2];

unsigned long lu_symbol(const char *name)
{
	return lookup_name(name);
}

static int range(struct lu_range *r, const char *name)
{
	unsigned long size, offset;

	r->start = lookup_name(name);
	if (!r->start || !lookup_size(r->start, &size, &offset)) {
		pr_err("the kernel has no symbol %s\n", name);
		return -ENOENT;
	}
	r->end = r->start + size;
	return 0;
}

#define NEED(member, name) do {						\
	lu_sym.member = (void *)lookup_name(name);			\
	if (!lu_sym.member) {						\
		pr_err("the kernel has no symbol %s\n", name);		\
		return -ENOENT;						\
	}								\
} while (0)

int lu_symbols_init(void)
{
	/* A kprobe finds any symbol; kallsyms_lookup_name() is not exported since 5.7. */
	struct kprobe kp = { .symbol_name = "kallsyms_lookup_name" };
	int err = register_kprobe(&kp);

	if (err) {
		pr_err("the kernel has no kprobes, or no kallsyms_lookup_name: %d\n", err);
		return err;
	}
	lookup_name = (void *)kp.addr;
	unregister_kprobe(&kp);
	lookup_size = (void *)lookup_name("kallsyms_lookup_size_offset");
	if (!lookup_size)
		return -ENOENT;
	NEED(default_ethtool_ops, "default_ethtool_ops");
	NEED(dev_set_rx_mode, "dev_set_rx_mode");
	NEED(netdev_update_features, "__netdev_update_features");
	NEED(find_module, "find_module");
	NEED(module_mutex, "module_mutex");
	NEED(ftrace_location, "ftrace_location");
	err = range(&probing[0], "really_probe");
	return err ?: range(&probing[1], "local_pci_probe");
}

/*
 * Whether the caller is inside a bus probe and, if driver is given, code of that
 * module is on the stack. The stack tells it in whatever task the probe runs, and
 * however many wrappers and helper modules are in between.
 */
bool notrace lu_in_bus_probe(struct module *driver)
{
	unsigned long stack[40];
	unsigned int i, n = stack_trace_save(stack, ARRAY_SIZE(stack), 0);
	bool in_probe = false, in_driver = !driver;

	for (i = 0; i < n; i++) {
		in_probe |= stack[i] >= probing[0].start && stack[i] < probing[0].end;
		in_probe |= stack[i] >= probing[1].start && stack[i] < probing[1].end;
		in_driver |= driver && within_module(stack[i], driver);
	}
	return in_probe && in_driver;
}

/* The module of that name, with a reference; NULL if it is not live. */
struct module *lu_module(const char *name)
{
	struct module *m;

	mutex_lock(lu_sym.module_mutex);
	m = lu_sym.find_module(name);
	if (m && !try_module_get(m))
		m = NULL;
	mutex_unlock(lu_sym.module_mutex);
	return m;
}
