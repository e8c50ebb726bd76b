/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * lupatch_shadow: stands in for a driver while it is replaced.
 *
 * The kernel's object that others hold (here the net_device) stays; what belongs
 * to the driver inside it is exchanged. Nothing of a driver's text is altered: the
 * functions of the kernel through which a driver allocates, registers, unregisters
 * and frees its object are hooked, and those calls alone that concern a device of
 * the session go elsewhere.
 *
 * Who does what
 *   - Commands come through a character device (control.c), one at a time.
 *   - Whatever touches a net_device under rtnl is done by one kernel thread per
 *     session (thread.c). It alone takes rtnl for us and gives it back: a probe may
 *     run in one task, its bus notifier in another, and both may be gone.
 *   - Bus notifiers (bus.c) only note what happened and wake the thread.
 *   - Hooks (gate.c) run in whatever context their function is called in.
 *
 * Lock order
 *   lu_session_lock -> device_lock(parent) -> rtnl -> dev->addr_list_lock,
 *   txq->_xmit_lock; lu_session.lock (a spinlock, irqs off) is innermost.
 *   rtnl is never waited for, nor anybody who waits for it, inside a bus notifier:
 *   its rwsem is taken with rtnl held elsewhere, a writer in between would stop both.
 *   From a probe's alloc_netdev to the end of its attachment the thread holds rtnl;
 *   the probing task, which waits for the thread with its device lock held, has its
 *   own rtnl_lock() and rtnl_unlock() answered. The thread never takes a device lock.
 */
#ifndef LU_SHADOW_H
#define LU_SHADOW_H

#include <linux/completion.h>
#include <linux/ethtool.h>
#include <linux/ftrace.h>
#include <linux/if_vlan.h>
#include <linux/kernel.h>
#include <linux/ktime.h>
#include <linux/list.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/netdevice.h>
#include <linux/notifier.h>
#include <linux/rtnetlink.h>
#include <linux/slab.h>
#include <linux/spinlock.h>
#include <linux/wait.h>

#include "lupatch_shadow.h"

struct lu_session;

/* What a driver offers, as of when it was stopped for the first time. */
struct lu_offer {
	netdev_features_t features, hw_features, vlan_features;
	netdev_features_t hw_enc_features, mpls_features;
	unsigned long long priv_flags;
	struct net_device_ops ndo;
	struct ethtool_ops eth;
	unsigned int min_mtu, max_mtu;
	unsigned int headroom;
	unsigned short dev_id, dev_port;
};

/* What the stack and its users have set, as of when a probe got the object. */
struct lu_user {
	char name[IFNAMSIZ];
	unsigned char name_assign_type, addr_assign_type;
	unsigned char addr[MAX_ADDR_LEN];
	unsigned int flags, mtu, tx_queue_len;
	unsigned int real_tx, real_rx;
	unsigned int gso_max_size;
	u16 gso_max_segs;
	netdev_features_t wanted;
};

struct lu_settings;

/* One device of the session. */
struct lu_dev {
	struct lu_session *s;
	unsigned int index;
	enum lu_state state;		/* written with s->lock held */

	struct net_device *dev;
	netdevice_tracker tracker;
	struct device *parent;
	size_t room;			/* for the private area */
	int asked;

	struct lu_offer offer;
	bool have_offer;
	struct lu_user user;
	struct lu_settings *settings;
	/* of the driver that is bound */
	const struct net_device_ops *driver_ndo;
	const struct ethtool_ops *driver_eth;
	int watchdog_timeo;
	const struct attribute_group *group;	/* of receive queues, the driver's */
	bool rxq_groups;		/* the driver's attributes of queues are there */
	bool uninit;			/* its ndo_init was called, ndo_uninit was not */
	struct ethtool_ops idle_eth;	/* what the impersonator offers */
	struct ethtool_link_ksettings link;
	bool have_link;
	struct rtnl_link_stats64 stats;	/* shown while there is no driver */
	bool was_up, was_carrier;
	bool held;			/* link events are held back */
	bool gate;			/* packets are turned back */
	unsigned long held_until;	/* jiffies */
	bool keep;			/* rtnl is kept for its bond */
	unsigned long keep_until;	/* jiffies */

	struct task_struct *prober;	/* inside the probe; for comparison only */
	struct task_struct *binder;	/* referenced: did it die? */
	int rtnl_depth;			/* of the prober's own calls */
	bool binding;
	/* what the probe has written, taken off at once (guard.c) */
	const struct net_device_ops *new_ndo;
	const struct ethtool_ops *new_eth;
	unsigned char new_addr[MAX_ADDR_LEN];
	bool have_new_addr;

	unsigned int lost, replay_failed;
	u64 when[LU_MOMENTS];
	u64 tx_busy, stats_reads, link_events, name_stores, ops_stores;
};

/* A request to the thread, which is done when the thread has completed it. */
struct lu_work {
	struct list_head list;
	int (*fn)(struct lu_work *w);
	struct lu_dev *d;
	void *arg;
	int err;
	struct completion done;
};

/* One replacement: all devices of one module. */
struct lu_session {
	u64 number;
	char module[LU_NAME_LEN];
	u32 flags;
	unsigned int n;
	struct lu_dev *d[LU_DEVICES_MAX];

	spinlock_t lock;
	struct task_struct *thread;
	struct list_head works;
	wait_queue_head_t wake;		/* the thread's */
	bool rtnl;			/* the thread holds it */
	struct lu_dev *window;		/* between alloc_netdev and attachment */
	unsigned long window_since;

	struct file *primary, *guardian;
	pid_t tgid;			/* who may load the target */
	unsigned long heard;		/* jiffies of the primary's last command */
	bool orphaned;
	struct lu_result *result;	/* of the command at work */

	struct lu_bus *buses;
	unsigned int n_buses;
};

/* session.c. The session is found with rcu_dereference-like READ_ONCE by hooks,
 * which are gone before it is freed; all else holds lu_session_lock. */
extern struct lu_session *lu_session;
extern struct mutex lu_session_lock;
int lu_session_begin(struct file *file, struct lu_begin *b);
int lu_session_finish(struct lu_session *s, struct lu_result *r);
void lu_session_end(struct lu_session *s);
int lu_session_give_up(struct lu_session *s);
int lu_stop_all(struct lu_session *s);
int lu_resume_all(struct lu_session *s);
int lu_unbind_all(struct lu_session *s, struct lu_result *r);
int lu_rebind_all(struct lu_session *s, struct lu_result *r);
__printf(2, 3) int lu_why(struct lu_session *s, const char *fmt, ...);

/* thread.c */
int lu_thread_start(struct lu_session *s);
void lu_thread_stop(struct lu_session *s);
int lu_thread_do(struct lu_session *s, struct lu_dev *d, int (*fn)(struct lu_work *), void *arg);
void lu_thread_wake(struct lu_session *s);
void lu_rtnl_get(struct lu_session *s);
void lu_rtnl_put(struct lu_session *s);
void lu_rtnl_drop(struct lu_session *s);

/* bus.c */
int lu_bus_watch(struct lu_session *s);
void lu_bus_unwatch(struct lu_session *s);

/* admit.c */
int lu_admit_init(void);
void lu_admit_lock(void);
void lu_admit_unlock(void);
void lu_admit_exit(void);

/* control.c, events.c */
int lu_control_init(void);
void lu_control_exit(void);
void lu_events_reset(void);
__printf(4, 5) void lu_event(struct lu_dev *d, enum lu_kind kind, int arg, const char *fmt, ...);
void lu_state(struct lu_dev *d, enum lu_state state);
bool lu_events_pending(void);
ssize_t lu_events_read(char __user *buf, size_t size);
extern wait_queue_head_t lu_events_wait;
static inline void lu_now(struct lu_dev *d, enum lu_moment m)
{
	WRITE_ONCE(d->when[m], ktime_get_ns());
}

/* symbols.c: what the kernel does not export */
extern struct lu_symbols {
	const struct ethtool_ops *default_ethtool_ops;
	void (*dev_set_rx_mode)(struct net_device *dev);
	int (*netdev_update_features)(struct net_device *dev);
	struct module *(*find_module)(const char *name);
	struct mutex *module_mutex;
	unsigned long (*ftrace_location)(unsigned long addr);
} lu_sym;
struct lu_range { unsigned long start, end; };
int lu_symbols_init(void);
unsigned long lu_symbol(const char *name);
bool lu_in_bus_probe(struct module *driver);
struct module *lu_module(const char *name);

/* gate.c */
struct lu_hook {
	const char *name;
	void *fn;
	bool (*match)(struct ftrace_regs *regs);
	enum lu_when when;
	bool optional;
	unsigned long ip;
};
int lu_gate_init(void);
void lu_gate_exit(void);
int lu_gate_open(enum lu_when when);
void lu_gate_close(enum lu_when when);
void lu_gate_hello(struct lu_hello *h);
/* Those whose originals are called by their hook. */
enum lu_hook_index { LU_H_ALLOC, LU_H_STATS };
void lu_pass(enum lu_hook_index h);
void lu_hook_done(void);
#define lu_arg(regs, n) regs_get_kernel_argument(&(regs)->regs, n)
extern struct lu_hook lu_hooks[];
extern const unsigned int lu_n_hooks;

/* table.c: what is remembered of a net_device as long as it lives */
struct lu_mark {
	struct hlist_node node;
	struct net_device *dev;
	struct rcu_head rcu;
	size_t room;
	bool counts;			/* offset is in use */
	struct rtnl_link_stats64 offset;
};
int lu_mark_room(struct net_device *dev, size_t room);
size_t lu_room_of(struct net_device *dev);
int lu_mark_offset(struct net_device *dev, const struct rtnl_link_stats64 *offset);
struct lu_mark *lu_mark_find(struct net_device *dev);	/* under RCU */
void lu_mark_forget(struct net_device *dev);
unsigned int lu_marks_counting(void);
void lu_marks_free(void);

/* scan.c */
int lu_scan(struct lu_dev *d, struct module *m);

/* guard.c */
int lu_guard_reserve(void);
int lu_guard_on(struct lu_dev *d);
void lu_guard_off(void);

/* a driver works on it */
static inline bool lu_driven(enum lu_state st)
{
	return st == LU_OWNED || st == LU_HELD || st == LU_RUNNING;
}

/* a probe has it */
static inline bool lu_probed(enum lu_state st)
{
	return st == LU_PROBING || st == LU_REGISTERED || st == LU_BOUND;
}

#endif
