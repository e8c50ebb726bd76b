// SPDX-License-Identifier: GPL-2.0-only
/*
 * During a session nobody else loads a module of the target's name: it would take
 * the devices that wait for the new driver.
 */
#include "shadow.h"

static bool ours(struct lu_session *s)
{
	bool yes;

	rcu_read_lock();
	yes = current->tgid == s->tgid || rcu_dereference(current->real_parent)->tgid == s->tgid;
	rcu_read_unlock();
	return yes;
}

static int module_comes(struct notifier_block *nb, unsigned long action, void *data)
{
	struct module *m = data;
	struct lu_session *s;
	int ret = NOTIFY_DONE;

	if (action != MODULE_STATE_COMING)
		return NOTIFY_DONE;
	/* Not the session's mutex: a probe that it waits for may load other modules. */
	lu_admit_lock();
	s = lu_session;
	if (s && !strcmp(m->name, s->module) && !ours(s)) {
		pr_warn("%s[%d] wants to load %s, which is being replaced\n", current->comm, current->tgid, m->name);
		ret = notifier_from_errno(-EBUSY);
	}
	lu_admit_unlock();
	return ret;
}

static struct notifier_block nb = { .notifier_call = module_comes };

int lu_admit_init(void)
{
	return register_module_notifier(&nb);
}

void lu_admit_exit(void)
{
	unregister_module_notifier(&nb);
}
