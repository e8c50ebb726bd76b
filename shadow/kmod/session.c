// SPDX-License-Identifier: GPL-2.0-only
/*
 * The session: one replacement, of all devices of one module, from LU_IOC_BEGIN to
 * LU_IOC_FINISH. Every step can be undone until the old module is gone, and after
 * that by loading it again.
 */
#include "net.h"

struct lu_session *lu_session;
DEFINE_MUTEX(lu_session_lock);
static u64 last_number;

/* Keeps the session from being freed, for whoever cannot take the mutex. */
static DEFINE_SPINLOCK(alive);

void lu_admit_lock(void)
{
	spin_lock(&alive);
}

void lu_admit_unlock(void)
{
	spin_unlock(&alive);
}

/* Leaves the reason of a failure for the command at work. Gives -EOPNOTSUPP. */
int lu_why(struct lu_session *s, const char *fmt, ...)
{
	va_list args;

	if (s->result) {
		va_start(args, fmt);
		vscnprintf(s->result->reason, sizeof(s->result->reason), fmt, args);
		va_end(args);
	}
	return -EOPNOTSUPP;
}

static void free_session(struct lu_session *s)
{
	unsigned int i;

	for (i = 0; i < s->n; i++) {
		struct lu_dev *d = s->d[i];

		if (d->dev)
			netdev_put(d->dev, &d->tracker);
		put_device(d->parent);
		lu_settings_free(d);
		kfree(d);
	}
	kfree(s);
}

static int check_module(struct lu_session *s)
{
	struct module *m = lu_module(s->module);
	int refs;

	if (!m)
		return lu_why(s, "the module %s is not loaded", s->module);
	refs = module_refcount(m) - 1;
	module_put(m);
	return refs > 0 ? lu_why(s, "the module %s is in use %d times", s->module, refs) : 0;
}

int lu_session_begin(struct file *file, struct lu_begin *b)
{
	struct lu_result result = { };
	struct lu_session *s;
	int err;

	if (lu_session)
		return -EBUSY;
	s = kzalloc(sizeof(*s), GFP_KERNEL);
	if (!s)
		return -ENOMEM;
	spin_lock_init(&s->lock);
	INIT_LIST_HEAD(&s->works);
	init_waitqueue_head(&s->wake);
	strscpy(s->module, b->module, sizeof(s->module));
	s->flags = b->flags;
	s->number = ++last_number;
	s->primary = file;
	s->tgid = current->tgid;
	s->heard = jiffies;
	s->result = &result;
	lu_events_reset();

	err = check_module(s);
	if (!err)
		err = lu_net_find(s);
	if (!err && lu_guard_reserve())
		err = lu_why(s, "the processor's four debug registers are in use (a debugger, or perf): they guard names and operations while a driver probes");
	if (err)
		goto out;
	err = lu_thread_start(s);
	if (err)
		goto out;
	WRITE_ONCE(lu_session, s);
	/* An orphaned session has no open file that would hold the module. */
	__module_get(THIS_MODULE);
	err = lu_bus_watch(s);
	if (!err)
		err = lu_gate_open(LU_WHEN_MARKED);
	if (!err)
		err = lu_gate_open(LU_WHEN_SESSION);
	if (err) {
		lu_why(s, "hooking the kernel's functions: error %d (is one of them livepatched?)", err);
		lu_session_end(s);
		s = NULL;
		goto out;
	}
	s->result = NULL;
	b->devices = s->n;
	b->session = s->number;
	return 0;
out:
	strscpy(b->reason, result.reason, sizeof(b->reason));
	if (s)
		free_session(s);
	return err;
}

/* Takes the session apart. No device may be without a driver. */
void lu_session_end(struct lu_session *s)
{
	lu_bus_unwatch(s);
	lu_gate_close(LU_WHEN_SESSION);
	if (!lu_marks_counting())
		lu_gate_close(LU_WHEN_MARKED);
	lu_guard_off();
	lu_thread_stop(s);
	spin_lock(&alive);
	WRITE_ONCE(lu_session, NULL);
	spin_unlock(&alive);
	/* The bus notifiers and hooks are gone; event readers hold the lock. */
	free_session(s);
	wake_up_all(&lu_events_wait);
	module_put(THIS_MODULE);
}

static int first_not(struct lu_session *s, bool (*ok)(enum lu_state))
{
	unsigned int i;

	for (i = 0; i < s->n; i++)
		if (!ok(READ_ONCE(s->d[i]->state)))
			return i;
	return -1;
}

static bool settled(enum lu_state st)
{
	return lu_driven(st) || st == LU_LOST || st == LU_GIVEN_UP;
}

int lu_session_finish(struct lu_session *s, struct lu_result *r)
{
	int i = first_not(s, settled);

	if (i >= 0) {
		r->device = i;
		lu_why(s, "%s has no driver at work (state %d)", s->d[i]->user.name, s->d[i]->state);
		return -EBUSY;
	}
	lu_thread_do(s, NULL, lu_net_release_all, NULL);
	lu_session_end(s);
	return 0;
}

/* Runs fn for every device in one of two states; stops at the first error. */
static int each(struct lu_session *s, enum lu_state a, enum lu_state b, int (*fn)(struct lu_work *))
{
	unsigned int i;
	int err;

	for (i = 0; i < s->n; i++) {
		enum lu_state st = READ_ONCE(s->d[i]->state);

		if (st != a && st != b)
			continue;
		err = lu_thread_do(s, s->d[i], fn, NULL);
		if (err) {
			if (s->result)
				s->result->device = i;
			return err;
		}
	}
	return 0;
}

int lu_stop_all(struct lu_session *s)
{
	unsigned int i;
	int err = check_module(s);

	for (i = 0; !err && i < s->n; i++) {
		if (!lu_driven(READ_ONCE(s->d[i]->state)))
			continue;
		err = lu_thread_do(s, s->d[i], lu_net_stop, NULL);
		if (err && s->result)
			s->result->device = i;
	}
	if (err)
		lu_resume_all(s);
	return err;
}

int lu_resume_all(struct lu_session *s)
{
	return each(s, LU_STOPPED, LU_STOPPED, lu_net_resume);
}

/* The drivers' remove() runs in the caller's task: it may take rtnl, and wait. */
int lu_unbind_all(struct lu_session *s, struct lu_result *r)
{
	struct module *m = lu_module(s->module);
	unsigned int i;
	int hits = 0;

	for (i = 0; i < s->n; i++)
		if (READ_ONCE(s->d[i]->state) == LU_STOPPED)
			device_release_driver(s->d[i]->parent);
	for (i = 0; m && i < s->n; i++)
		if (READ_ONCE(s->d[i]->state) == LU_ALONE)
			hits += lu_scan(s->d[i], m);
	if (m)
		module_put(m);
	if (hits)
		return lu_why(s, "%d pointers into the module %s remain in what is preserved", hits, s->module);
	i = first_not(s, settled);
	return (int)i >= 0 && READ_ONCE(s->d[i]->state) == LU_STOPPED ? -EBUSY : 0;
}

int lu_rebind_all(struct lu_session *s, struct lu_result *r)
{
	unsigned int i;
	int err = 0;

	for (i = 0; i < s->n; i++) {
		if (READ_ONCE(s->d[i]->state) != LU_ALONE)
			continue;
		if (device_attach(s->d[i]->parent) != 1) {
			r->device = i;
			err = -ENODEV;
		}
	}
	return err;
}

/* For devices that nobody takes: whoever is loaded, else they go for good. */
int lu_session_give_up(struct lu_session *s)
{
	struct lu_result r = { };
	bool lost = false;
	unsigned int i;

	for (i = 0; i < s->n; i++)
		lost |= READ_ONCE(s->d[i]->state) == LU_LOST;
	lu_resume_all(s);
	/* A driver that killed one task would kill this one. */
	if (!lost)
		lu_rebind_all(s, &r);
	/* What has been taken is attached by the thread before this is done. */
	lu_thread_do(s, NULL, lu_net_release_all, NULL);
	for (i = 0; i < s->n; i++)
		if (lu_probed(READ_ONCE(s->d[i]->state)))
			return -EAGAIN;
	return each(s, LU_ALONE, LU_RETURNING, lu_net_give_up);
}
