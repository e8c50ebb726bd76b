// SPDX-License-Identifier: GPL-2.0-only
/*
 * /dev/lupatch_shadow: commands by ioctl, events by read and poll.
 *
 * The process that begins a session is its primary, another may be its guardian.
 * When the primary closes the device, or is silent for LU_SILENCE_MAX seconds, the
 * session is orphaned: the guardian's poll says POLLPRI, and it takes over. Without
 * a guardian the session ends by itself: whatever driver is loaded gets the devices,
 * and those that nobody wants are unregistered.
 */
#include <linux/capability.h>
#include <linux/miscdevice.h>
#include <linux/poll.h>
#include <linux/uaccess.h>
#include <linux/workqueue.h>

#include "net.h"

static void end_orphan(struct work_struct *w);
static DECLARE_DELAYED_WORK(end_work, end_orphan);

static void end_orphan(struct work_struct *w)
{
	struct lu_session *s;

	mutex_lock(&lu_session_lock);
	s = lu_session;
	if (s && s->orphaned && !s->guardian) {
		if (lu_session_give_up(s) == -EAGAIN)
			schedule_delayed_work(&end_work, HZ);
		else
			lu_session_end(s);
	}
	mutex_unlock(&lu_session_lock);
}

static int control_open(struct inode *inode, struct file *file)
{
	if (!capable(CAP_SYS_MODULE))
		return -EPERM;
	return nonseekable_open(inode, file);
}

static int control_release(struct inode *inode, struct file *file)
{
	struct lu_session *s;

	mutex_lock(&lu_session_lock);
	s = lu_session;
	if (s && s->guardian == file)
		s->guardian = NULL;
	if (s && s->primary == file) {
		s->primary = NULL;
		s->orphaned = true;
		lu_event(NULL, LU_EV_ORPHANED, 0, "the process that replaced the driver has ended");
	}
	if (s && s->orphaned && !s->guardian)
		schedule_delayed_work(&end_work, 0);
	mutex_unlock(&lu_session_lock);
	wake_up_all(&lu_events_wait);
	return 0;
}

static int device_info(struct lu_session *s, struct lu_device *o)
{
	struct lu_dev *d;

	if (o->index >= s->n)
		return -ENODEV;
	d = s->d[o->index];
	o->state = d->state;
	o->port = d->offer.dev_port;
	strscpy(o->parent, dev_name(d->parent), sizeof(o->parent));
	o->room = d->room;
	o->asked = d->asked;
	o->up = d->was_up;
	o->carrier = d->was_carrier;
	o->lost = d->lost;
	o->replay_failed = d->replay_failed;
	memcpy(o->when, d->when, sizeof(o->when));
	o->tx_busy = d->tx_busy;
	o->stats_reads = d->stats_reads;
	o->link_events = d->link_events;
	o->name_stores = d->name_stores;
	o->ops_stores = d->ops_stores;
	if (d->state == LU_GIVEN_UP || !d->dev)
		return 0;
	o->ifindex = d->dev->ifindex;
	o->netns = dev_net(d->dev)->ns.inum;
	memcpy(o->name, lu_probed(d->state) ? d->user.name : d->dev->name, sizeof(o->name));
	return 0;
}

static long be_guardian(struct file *file, struct lu_result *r)
{
	struct lu_session *s = lu_session;

	if (!s || s->number != r->session)
		return -ESRCH;
	if (s->guardian || s->primary == file)
		return -EBUSY;
	s->guardian = file;
	return 0;
}

static long take_over(struct file *file, struct lu_result *r)
{
	struct lu_session *s = lu_session;

	if (!s || s->guardian != file)
		return -ESRCH;
	if (!s->orphaned)
		return -EBUSY;
	s->primary = file;
	s->guardian = NULL;
	s->tgid = current->tgid;
	s->orphaned = false;
	return 0;
}

/* A command of the primary. */
static long command(struct file *file, unsigned int cmd, struct lu_result *r)
{
	struct lu_session *s = lu_session;
	long err;

	if (!s)
		return -ESRCH;
	if (s->primary != file || s->orphaned)
		return -EPIPE;	/* somebody has taken over, or is about to */
	s->heard = jiffies;
	s->result = r;
	r->device = ~0u;
	switch (cmd) {
	case LU_IOC_PING:
		err = 0;
		break;
	case LU_IOC_STOP:
		err = lu_stop_all(s);
		break;
	case LU_IOC_RESUME:
		err = lu_resume_all(s);
		break;
	case LU_IOC_UNBIND:
		err = lu_unbind_all(s, r);
		break;
	case LU_IOC_REBIND:
		err = lu_rebind_all(s, r);
		break;
	case LU_IOC_GIVE_UP:
		err = lu_session_give_up(s);
		break;
	case LU_IOC_FINISH:
		err = lu_session_finish(s, r);
		if (!err)
			return 0;
		break;
	default:
		err = -ENOTTY;
	}
	s->result = NULL;
	s->heard = jiffies;
	return err;
}

union arg {
	struct lu_hello hello;
	struct lu_begin begin;
	struct lu_result result;
	struct lu_device device;
};

static long answer(struct file *file, unsigned int cmd, union arg *a)
{
	u32 abi;

	switch (cmd) {
	case LU_IOC_HELLO:
		abi = a->hello.abi;
		memset(a, 0, sizeof(a->hello));
		a->hello.abi = LUPATCH_SHADOW_ABI;
		a->hello.device_size = sizeof(struct lu_device);
		a->hello.event_size = sizeof(struct lu_event);
		a->hello.slack = lu_slack;
		a->hello.marked = lu_marks_counting();
		a->hello.session = lu_session ? lu_session->number : 0;
		lu_gate_hello(&a->hello);
		return abi == LUPATCH_SHADOW_ABI ? 0 : -EPROTO;
	case LU_IOC_BEGIN:
		a->begin.module[LU_NAME_LEN - 1] = 0;
		memset(a->begin.reason, 0, sizeof(a->begin.reason));
		return lu_session_begin(file, &a->begin);
	case LU_IOC_DEVICE:
		return lu_session ? device_info(lu_session, &a->device) : -ESRCH;
	case LU_IOC_GUARD:
		return be_guardian(file, &a->result);
	case LU_IOC_TAKEOVER:
		return take_over(file, &a->result);
	}
	memset(a->result.reason, 0, sizeof(a->result.reason));
	return command(file, cmd, &a->result);
}

/* The answer is written also when it is no: it has the reason. */
static long control_ioctl(struct file *file, unsigned int cmd, unsigned long p)
{
	size_t size = _IOC_SIZE(cmd);
	union arg *a;
	long err;

	switch (cmd) {
	case LU_IOC_HELLO: case LU_IOC_BEGIN: case LU_IOC_GUARD: case LU_IOC_TAKEOVER:
	case LU_IOC_PING: case LU_IOC_STOP: case LU_IOC_RESUME: case LU_IOC_UNBIND:
	case LU_IOC_REBIND: case LU_IOC_DEVICE: case LU_IOC_FINISH: case LU_IOC_GIVE_UP:
		break;
	default:
		return -ENOTTY;
	}
	a = kzalloc(sizeof(*a), GFP_KERNEL);
	if (!a)
		return -ENOMEM;
	if (copy_from_user(a, (void __user *)p, size)) {
		kfree(a);
		return -EFAULT;
	}
	mutex_lock(&lu_session_lock);
	err = answer(file, cmd, a);
	mutex_unlock(&lu_session_lock);
	if (copy_to_user((void __user *)p, a, size))
		err = -EFAULT;
	kfree(a);
	return err;
}

static ssize_t control_read(struct file *file, char __user *buf, size_t size, loff_t *pos)
{
	int err;

	if (size < sizeof(struct lu_event))
		return -EINVAL;
	if (!lu_events_pending() && file->f_flags & O_NONBLOCK)
		return -EAGAIN;
	err = wait_event_interruptible(lu_events_wait, lu_events_pending());
	return err ?: lu_events_read(buf, size);
}

static __poll_t control_poll(struct file *file, poll_table *wait)
{
	struct lu_session *s;
	__poll_t mask = 0;

	poll_wait(file, &lu_events_wait, wait);
	if (lu_events_pending())
		mask |= EPOLLIN | EPOLLRDNORM;
	lu_admit_lock();
	s = lu_session;
	if (!s)
		mask |= EPOLLHUP;
	else if (s->orphaned && s->guardian == file)
		mask |= EPOLLPRI;
	lu_admit_unlock();
	return mask;
}

static const struct file_operations control_fops = {
	.owner		= THIS_MODULE,
	.open		= control_open,
	.release	= control_release,
	.unlocked_ioctl	= control_ioctl,
	.read		= control_read,
	.poll		= control_poll,
	.llseek		= no_llseek,
};

static struct miscdevice control = {
	.minor	= MISC_DYNAMIC_MINOR,
	.name	= "lupatch_shadow",
	.fops	= &control_fops,
	.mode	= 0600,
};

int lu_control_init(void)
{
	BUILD_BUG_ON(sizeof(struct lu_hello) != 1568);
	BUILD_BUG_ON(sizeof(struct lu_begin) != 296);
	BUILD_BUG_ON(sizeof(struct lu_result) != 240);
	BUILD_BUG_ON(sizeof(struct lu_device) != 296);
	BUILD_BUG_ON(sizeof(struct lu_event) != 248);
	return misc_register(&control);
}

void lu_control_exit(void)
{
	misc_deregister(&control);
	cancel_delayed_work_sync(&end_work);
}
