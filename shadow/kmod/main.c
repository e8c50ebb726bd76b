// SPDX-License-Identifier: GPL-2.0-only
#include "shadow.h"

static int __init lu_init(void)
{
	int err;

	err = lu_symbols_init();
	if (err)
		return err;
	err = lu_gate_init();
	if (err)
		return err;
	err = lu_admit_init();
	if (err)
		return err;
	err = lu_control_init();
	if (err)
		goto admit;
	err = lu_gate_open(LU_WHEN_LOADED);
	if (err)
		goto control;
	return 0;
control:
	pr_err("hooking the allocation of network devices: %d (is it livepatched?)\n", err);
	lu_control_exit();
admit:
	lu_admit_exit();
	return err;
}

/* There is no session: it would hold the control device open, and that the module.
 * Nor are there counters to carry on: those hold it, too. */
static void __exit lu_exit(void)
{
	lu_control_exit();
	lu_gate_exit();
	lu_admit_exit();
	lu_marks_free();
}

module_init(lu_init);
module_exit(lu_exit);
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("Stands in for device drivers while lupatch replaces them");
