/* SPDX-License-Identifier: GPL-2.0-only WITH Linux-syscall-note */
/*
 * What /dev/lupatch_shadow speaks. The Go side (shadow/abi.go) has the same
 * structures; both sides assert their sizes. Integers are in host order.
 */
#ifndef LUPATCH_SHADOW_H
#define LUPATCH_SHADOW_H

#include <linux/types.h>
#include <linux/ioctl.h>

/* Goes up with any change that an older lupatch would misread. */
#define LUPATCH_SHADOW_ABI	1

#define LU_NAME_LEN		56	/* of a module: MODULE_NAME_LEN on 64 bits */
#define LU_DEVICES_MAX		32	/* of one driver */
#define LU_TEXT_LEN		224
#define LU_HOOKS_MAX		32

/* State of a device. */
enum lu_state {
	LU_OWNED = 0,		/* its driver works, nothing has been done */
	LU_STOPPED,		/* impersonated; the old driver is still bound */
	LU_ALONE,		/* impersonated, without a driver */
	LU_RETURNING,		/* a probe failed; about to be LU_ALONE again */
	LU_PROBING,		/* a driver's probe has the object */
	LU_REGISTERED,		/* registered; the probe has not returned */
	LU_BOUND,		/* the probe has returned; about to be opened */
	LU_HELD,		/* a driver works; packets wait for the carrier */
	LU_RUNNING,		/* a driver works */
	LU_LOST,		/* whoever probed it died in there: until reboot */
	LU_GIVEN_UP,		/* unregistered for good */
};

/* Moments, as indices of lu_device.when. */
enum lu_moment {
	LU_T_STOP = 0,		/* impersonation begins */
	LU_T_STOPPED,		/* the old driver's ndo_stop has returned */
	LU_T_UNREGISTER,	/* the old driver unregisters */
	LU_T_FREE,		/* the old driver frees it */
	LU_T_UNBOUND,		/* the old driver is unbound */
	LU_T_BIND,		/* a driver begins to probe */
	LU_T_ALLOC,		/* it asks for a net_device */
	LU_T_REGISTER,		/* it registers it */
	LU_T_BOUND,		/* its probe has returned */
	LU_T_OPEN,		/* its ndo_open begins */
	LU_T_OPENED,		/* its ndo_open has returned */
	LU_T_CARRIER,		/* the link is there, or was never lost */
	LU_T_RELEASED,		/* packets flow */
	LU_T_SENT,		/* the first packet was given to the driver */
	LU_MOMENTS = 16,
};

struct lu_hello {
	__u32 abi;		/* in: the caller's; out: the module's */
	__u32 device_size;	/* out: sizes of the structures below */
	__u32 event_size;
	__u32 hooks;		/* out: how many of hook are used */
	__u32 slack;		/* out: bytes added to private areas */
	__u32 marked;		/* out: devices with counters carried on */
	__u64 session;		/* out: the open session's number, 0: none */
	struct {
		char name[40];
		__u32 enabled;	/* 1: its ftrace site is in use now */
		__u32 when;	/* enum lu_when */
	} hook[LU_HOOKS_MAX];
};

/* When a hook is enabled. */
enum lu_when {
	LU_WHEN_LOADED = 0,	/* while the module is loaded */
	LU_WHEN_MARKED,		/* while counters of a device are carried on */
	LU_WHEN_SESSION,	/* during a replacement */
};

struct lu_begin {
	char module[LU_NAME_LEN];	/* in: whose devices */
	__u32 flags;			/* in: LU_F_* */
	__u32 devices;			/* out: how many there are */
	__u64 session;			/* out: its number */
	char reason[LU_TEXT_LEN];	/* out: why not */
};

/* Go on if the new driver offers less than the old one. */
#define LU_F_CONTINUE	1u

/* Answer to commands without an answer of their own. */
struct lu_result {
	__u64 session;			/* in, of LU_IOC_GUARD */
	__u32 device;			/* out: which device, if any */
	__u32 pad;
	char reason[LU_TEXT_LEN];	/* out: why not */
};

struct lu_device {
	__u32 index;		/* in */
	__u32 state;		/* enum lu_state */
	__s32 ifindex;
	__u32 port;		/* dev_port */
	__u64 netns;		/* inode number of its network namespace */
	char name[16];
	char parent[64];	/* the bus device */
	__u32 room;		/* bytes there are for the private area */
	__u32 asked;		/* bytes that the last probe asked for */
	__u32 up;		/* it was up when it was stopped */
	__u32 carrier;		/* it had a carrier then */
	__u32 lost;		/* what the new driver lacks: number of findings */
	__u32 replay_failed;	/* settings that could not be put back */
	__u64 when[LU_MOMENTS];	/* CLOCK_MONOTONIC in ns, 0: not yet */
	__u64 tx_busy;		/* packets that were turned back */
	__u64 stats_reads;	/* reads of counters that the shadow answered */
	__u64 link_events;	/* link events that were held back */
	__u64 name_stores;	/* stores to the name that were put right */
	__u64 ops_stores;	/* stores to operations tables, likewise */
};

/* Kinds of lu_event. */
enum lu_kind {
	LU_EV_STATE = 0,	/* a device's state; arg has it */
	LU_EV_NOTE,		/* something worth knowing */
	LU_EV_LOST,		/* the new driver lacks something */
	LU_EV_REPLAY,		/* a setting could not be put back */
	LU_EV_POINTER,		/* a preserved object points into the old module */
	LU_EV_ERROR,		/* something failed; arg has the error number */
	LU_EV_ORPHANED,		/* nobody drives the session: for the guardian */
	LU_EV_DIED,		/* the task that probed died */
};

/* What read(2) gives, one or more at a time. */
struct lu_event {
	__u64 when;		/* CLOCK_MONOTONIC in ns */
	__u32 device;		/* index; ~0 for the session */
	__u16 kind;		/* enum lu_kind */
	__s16 arg;
	__u32 lost;		/* events that were dropped before this one */
	__u32 pad;
	char text[LU_TEXT_LEN];
};

#define LU_IOC			'L'
#define LU_IOC_HELLO		_IOWR(LU_IOC, 0, struct lu_hello)
#define LU_IOC_BEGIN		_IOWR(LU_IOC, 1, struct lu_begin)	/* a session */
#define LU_IOC_GUARD		_IOWR(LU_IOC, 2, struct lu_result)	/* be its guardian */
#define LU_IOC_TAKEOVER		_IOWR(LU_IOC, 3, struct lu_result)	/* of an orphaned one */
#define LU_IOC_PING		_IOWR(LU_IOC, 4, struct lu_result)	/* still there */
#define LU_IOC_STOP		_IOWR(LU_IOC, 5, struct lu_result)	/* impersonate */
#define LU_IOC_RESUME		_IOWR(LU_IOC, 6, struct lu_result)	/* undo of STOP */
#define LU_IOC_UNBIND		_IOWR(LU_IOC, 7, struct lu_result)	/* the driver */
#define LU_IOC_REBIND		_IOWR(LU_IOC, 8, struct lu_result)	/* whoever is loaded */
#define LU_IOC_DEVICE		_IOWR(LU_IOC, 9, struct lu_device)
#define LU_IOC_FINISH		_IOWR(LU_IOC, 10, struct lu_result)	/* all work */
#define LU_IOC_GIVE_UP		_IOWR(LU_IOC, 11, struct lu_result)	/* unregister the rest */

/* Silence of the primary process after which a session is orphaned, in seconds. */
#define LU_SILENCE_MAX		30

#endif
