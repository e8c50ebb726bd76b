// SPDX-License-Identifier: GPL-2.0-only
/*
 * The session's thread. It holds rtnl for us, does what has to be done with it, and
 * looks after what must end without anybody's command.
 */
#include <linux/kthread.h>
#include <linux/sched/task.h>

#include "net.h"

/* A probe that waits for somebody who wants rtnl would wait for ever: after this
 * time rtnl is let go, and what others ask of the device is refused as busy. */
#define WINDOW_MAX (10 * HZ)

void lu_rtnl_get(struct lu_session *s)
{
	if (!s->rtnl)
		rtnl_lock();
	s->rtnl = true;
}

void lu_rtnl_drop(struct lu_session *s)
{
	if (s->rtnl)
		rtnl_unlock();
	s->rtnl = false;
}

/* Where a bond must not act yet, step() drops it later. */
void lu_rtnl_put(struct lu_session *s)
{
	if (!lu_net_bond_waits(s))
		lu_rtnl_drop(s);
}

/* A net_device is given to a probe only when the one before it is settled. */
static bool runnable(struct lu_session *s, struct lu_work *w)
{
	return w->fn != lu_net_give || !s->window;
}

static struct lu_work *next_work(struct lu_session *s)
{
	struct lu_work *w;

	spin_lock_irq(&s->lock);
	list_for_each_entry(w, &s->works, list) {
		if (!runnable(s, w))
			continue;
		list_del_init(&w->list);
		spin_unlock_irq(&s->lock);
		return w;
	}
	spin_unlock_irq(&s->lock);
	return NULL;
}

static struct lu_dev *next_device(struct lu_session *s)
{
	unsigned int i;

	for (i = 0; i < s->n; i++) {
		enum lu_state st = READ_ONCE(s->d[i]->state);

		if (st == LU_BOUND || st == LU_RETURNING)
			return s->d[i];
	}
	return NULL;
}

static bool due(struct lu_session *s)
{
	struct lu_work *w;
	bool any = next_device(s) || (s->rtnl && !s->window && !lu_net_bond_waits(s));

	spin_lock_irq(&s->lock);
	list_for_each_entry(w, &s->works, list)
		any |= runnable(s, w);
	spin_unlock_irq(&s->lock);
	return any || kthread_should_stop();
}

static void window(struct lu_session *s)
{
	struct lu_dev *d = s->window;

	if (!d)
		return;
	/* A task that died of an Oops in the probe never says how it ended. */
	if (d->binder && (READ_ONCE(d->binder->exit_state) || d->binder->flags & PF_EXITING)) {
		lu_guard_off();
		s->window = NULL;
		d->prober = NULL;
		lu_state(d, LU_LOST);
		WRITE_ONCE(d->held, false);
		netif_carrier_off(d->dev);	/* for bonds and routes that can do without */
		__module_get(THIS_MODULE);
		lu_event(d, LU_EV_DIED, 0, "the task that probed the driver died in it: its locks stay held until the next boot");
		lu_rtnl_drop(s);
		return;
	}
	if (s->rtnl && time_after(jiffies, s->window_since + WINDOW_MAX)) {
		lu_event(d, LU_EV_NOTE, 0, "the probe lasts: the network configuration is unlocked meanwhile");
		lu_rtnl_drop(s);
	}
}

static void look_after(struct lu_session *s)
{
	unsigned int i;

	window(s);
	if (!s->window)
		lu_rtnl_put(s);
	for (i = 0; i < s->n; i++)
		if (lu_net_held_too_long(s->d[i])) {
			lu_event(s->d[i], LU_EV_NOTE, 0, "no carrier; packets flow without it");
			lu_net_release(s->d[i]);
		}
	/* A command at work is a sign of life, too. */
	if (!s->orphaned && !mutex_is_locked(&lu_session_lock) &&
	    time_after(jiffies, READ_ONCE(s->heard) + LU_SILENCE_MAX * HZ)) {
		s->orphaned = true;
		lu_event(NULL, LU_EV_ORPHANED, 0, "silence for %d seconds", LU_SILENCE_MAX);
		wake_up_all(&lu_events_wait);
	}
}

static void step(struct lu_session *s)
{
	struct lu_dev *d;
	struct lu_work *w;

	while ((d = next_device(s))) {
		struct lu_work own = { .d = d };

		if (READ_ONCE(d->state) == LU_BOUND)
			lu_net_attach(&own);
		else
			lu_net_take_back(&own);
	}
	w = next_work(s);
	if (w) {
		w->err = w->fn(w);
		complete(&w->done);
	}
}

static int run(void *arg)
{
	struct lu_session *s = arg;

	for (;;) {
		wait_event_timeout(s->wake, due(s), HZ / 4);
		if (kthread_should_stop())
			break;
		step(s);
		look_after(s);
	}
	lu_rtnl_drop(s);
	return 0;
}

int lu_thread_start(struct lu_session *s)
{
	struct task_struct *t = kthread_run(run, s, "lupatch_shadow");

	if (IS_ERR(t))
		return PTR_ERR(t);
	s->thread = t;
	return 0;
}

void lu_thread_stop(struct lu_session *s)
{
	if (s->thread)
		kthread_stop(s->thread);
	s->thread = NULL;
}

void lu_thread_wake(struct lu_session *s)
{
	wake_up(&s->wake);
}

/* Has the thread do something and waits for it. May sleep. */
int lu_thread_do(struct lu_session *s, struct lu_dev *d, int (*fn)(struct lu_work *), void *arg)
{
	struct lu_work w = { .fn = fn, .d = d, .arg = arg };

	init_completion(&w.done);
	spin_lock_irq(&s->lock);
	list_add_tail(&w.list, &s->works);
	spin_unlock_irq(&s->lock);
	wake_up(&s->wake);
	wait_for_completion(&w.done);
	return w.err;
}
