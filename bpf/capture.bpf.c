//go:build ignore

/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What configures a network driver and cannot be read back from it: requests by
 * ioctl, the latest that succeeded of each device and setting.
 *
 * Why these functions. All are the network core's, none the driver's: a program
 * at a driver's own text would pin its module. All are reached by configuration
 * alone, never by a packet. dev_ioctl() is where every ioctl for an interface
 * passes, whatever socket it was made on; its signature is the same from 5.15 to
 * 6.12. It knows the interface by name only, hence __dev_get_by_name(), which it
 * calls first of all under the lock that keeps the name (of ethtool's requests
 * since 6.4 netdev_get_by_name()). Devices are told apart by address, so that a
 * new name, number or namespace changes nothing; netdev_register_kobject() and
 * netdev_unregister_kobject() are called once in the life of each address.
 * register_netdevice() itself and its kin are left to who replaces drivers.
 *
 * The kernel is read through BTF pointers only, which
 * lockdown=confidentiality permits; of the caller's memory bpf_probe_read_user()
 * reads what is resident.
 */

#include "capture.bpf.h"

/*
 * A driver has some ten settings of this kind at most; the rest is room for many
 * devices. Nothing is allocated before it is needed.
 */
struct {
	UINT(type, BPF_MAP_TYPE_HASH);
	UINT(max_entries, 4096);
	UINT(map_flags, BPF_F_NO_PREALLOC);
	TYPE(key, struct capture_key);
	TYPE(value, struct capture_request);
} latest SEC(".maps");

struct {
	UINT(type, BPF_MAP_TYPE_HASH);
	UINT(max_entries, 16384);
	UINT(map_flags, BPF_F_NO_PREALLOC);
	TYPE(key, u64);
	TYPE(value, struct capture_interface);
} interfaces SEC(".maps");

/* Calls that have begun, by thread. One waits for the other under rtnl. */
struct {
	UINT(type, BPF_MAP_TYPE_HASH);
	UINT(max_entries, 1024);
	UINT(map_flags, BPF_F_NO_PREALLOC);
	TYPE(key, u64);
	TYPE(value, struct capture_call);
} calls SEC(".maps");

/* Requests that found no room in one of the maps. */
u64 lost;

/* Set in a copy that lives as long as somebody reads its events. */
const volatile u32 follow;

/* The caller's memory can be read (see mayReadUser). */
const volatile u32 may_read_user = 1;

struct {
	UINT(type, BPF_MAP_TYPE_RINGBUF);
	UINT(max_entries, 1 << 18);
} events SEC(".maps");

/* A template: 376 bytes do not fit on the stack beside the rest. */
static const struct capture_call none;

static inline int wanted(u32 cmd)
{
	return cmd == SIOCETHTOOL || cmd == SIOCSMIIREG || cmd == SIOCWANDEV ||
	       cmd == SIOCSHWTSTAMP || (cmd & ~15u) == SIOCDEVPRIVATE;
}

static inline int wanted_of_ethtool(u32 cmd)
{
	return cmd == ETHTOOL_SEEPROM || cmd == ETHTOOL_FLASHDEV ||
	       cmd == ETHTOOL_RESET || cmd == ETHTOOL_SRXNTUPLE ||
	       cmd == ETHTOOL_SET_DUMP || cmd == ETHTOOL_STUNABLE ||
	       cmd == ETHTOOL_PERQUEUE || cmd == ETHTOOL_PHY_STUNABLE;
}

/*
 * Reads what the request points to. How long that is only the driver knows, so
 * that less is tried where the caller's memory ends.
 */
static inline void read_data(struct capture_request *r, u32 cmd, const void *from)
{
	if (!may_read_user) {
		/* what is inline has to do */
	} else if (cmd == SIOCSHWTSTAMP) {
		/* struct hwtstamp_config */
		if (!read_user(r->data, 12, from))
			r->data_bytes = 12;
	} else if (!read_user(r->data, DATA_LEN, from)) {
		r->data_bytes = DATA_LEN;
	} else if (!read_user(r->data, 64, from)) {
		r->data_bytes = 64;
	} else if (!read_user(r->data, 16, from)) {
		r->data_bytes = 16;
	}
	if (!r->data_bytes)
		r->flags |= FLAG_NO_DATA;
}

SEC("fentry/dev_ioctl")
int capture_begin(u64 *ctx)
{
	struct net *net = (void *)ctx[0];
	u32 cmd = ctx[1];
	struct ifreq *ifr = (void *)ctx[2];
	const void *data = (void *)ctx[3];
	u64 thread = current_pid_tgid();
	struct task_struct *task;
	struct capture_call *c;
	struct capture_request *r;
	u32 head[2] = {};
	int i;

	if (!wanted(cmd))
		return 0;
	/* Most of ethtool's requests read something: those cost no entry. */
	if (cmd == SIOCETHTOOL && (!may_read_user ||
	    read_user(head, sizeof(head), data) || !wanted_of_ethtool(head[0])))
		return 0;
	if (map_update(&calls, &thread, &none, 0) ||
	    !(c = map_lookup(&calls, &thread))) {
		__sync_fetch_and_add(&lost, 1);
		return 0;
	}
	r = &c->request;
	c->key.command = cmd;
	if (cmd == SIOCETHTOOL) {
		c->key.setting = head[0];
		if (head[0] == ETHTOOL_STUNABLE || head[0] == ETHTOOL_PHY_STUNABLE ||
		    head[0] == ETHTOOL_PERQUEUE)
			c->key.setting |= head[1] << 16;
	}
	r->count = 1;
	r->pid = thread >> 32;
	r->uid = current_uid_gid();
	current_comm(r->comm, sizeof(r->comm));
	r->netns = net->ns.inum;
	task = current_task();
	if (field_exists(task->thread_info.status) &&
	    task->thread_info.status & TS_COMPAT)
		r->flags |= FLAG_COMPAT;
#pragma unroll
	for (i = 0; i < NAME_LEN; i++)
		r->name[i] = ifr->ifr_ifrn.ifrn_name[i];
#pragma unroll
	for (i = 0; i < NAME_LEN; i++)
		r->inlined[i] = ifr->ifr_ifru.ifru_slave[i];
	*(u16 *)&r->inlined[16] = ifr->ifr_ifru.ifru_map.base_addr;
	r->inlined[18] = ifr->ifr_ifru.ifru_map.irq;
	r->inlined[19] = ifr->ifr_ifru.ifru_map.dma;
	r->inlined[20] = ifr->ifr_ifru.ifru_map.port;
	if (cmd == SIOCSMIIREG)
		/* phy_id and reg_num of struct mii_ioctl_data, the value follows */
		c->key.setting = *(u32 *)r->inlined;
	else
		read_data(r, cmd, data);
	return 0;
}

static inline void found(struct net_device *dev)
{
	u64 thread = current_pid_tgid();
	u64 device = (u64)dev;
	struct capture_interface i = {};
	struct capture_call *c;

	if (!device)
		return;
	c = map_lookup(&calls, &thread);
	if (!c || c->key.device)
		return;
	c->key.device = device;
	i.ifindex = dev->ifindex;
	i.netns = dev->nd_net.net->ns.inum;
	c->request.ifindex = i.ifindex;
	map_update(&interfaces, &device, &i, BPF_NOEXIST);
}

SEC("fexit/__dev_get_by_name")
int capture_device(u64 *ctx)
{
	found((void *)ctx[2]);
	return 0;
}

SEC("fexit/netdev_get_by_name")
int capture_tracked(u64 *ctx)
{
	found((void *)ctx[4]);
	return 0;
}

static inline int differs(const struct capture_request *a, const struct capture_request *b)
{
	int i;

	if (a->data_bytes != b->data_bytes)
		return 1;
	if (a->data_bytes) {
		/* Then the inlined part is the pointer. */
		const u64 *x = (void *)a->data, *y = (void *)b->data;

		for (i = 0; i < DATA_LEN / 8; i++)
			if (x[i] != y[i])
				return 1;
		return 0;
	}
	const u64 *x = (void *)a->inlined, *y = (void *)b->inlined;

	for (i = 0; i < INLINE_LEN / 8; i++)
		if (x[i] != y[i])
			return 1;
	return 0;
}

SEC("fexit/dev_ioctl")
int capture_end(u64 *ctx)
{
	u64 thread = current_pid_tgid();
	struct capture_request *r, *before;
	struct capture_call *c;

	c = map_lookup(&calls, &thread);
	if (!c)
		return 0;
	r = &c->request;
	r->at = boot_ns();
	r->result = (s32)ctx[5];
	if (follow) {
		ringbuf_output(&events, c, sizeof(*c), 0);
	} else if (c->key.device && r->result >= 0) {
		before = map_lookup(&latest, &c->key);
		if (before) {
			r->count = before->count + 1;
			r->flags |= before->flags & FLAG_VARIED;
			if (differs(before, r))
				r->flags |= FLAG_VARIED;
		}
		if (map_update(&latest, &c->key, r, 0))
			__sync_fetch_and_add(&lost, 1);
	}
	map_delete(&calls, &thread);
	return 0;
}

static inline void note(struct net_device *dev, u64 registered)
{
	u64 device = (u64)dev;
	struct capture_interface i = {};

	i.registered = registered;
	i.ifindex = dev->ifindex;
	i.netns = dev->nd_net.net->ns.inum;
	if (map_update(&interfaces, &device, &i, 0))
		__sync_fetch_and_add(&lost, 1);
}

SEC("fexit/netdev_register_kobject")
int capture_register(u64 *ctx)
{
	if (!(s32)ctx[1])
		note((void *)ctx[0], boot_ns());
	return 0;
}

/* Numbers change with the namespace. Called __dev_change_net_namespace since 5.13. */
SEC("fexit/__dev_change_net_namespace")
int capture_move(u64 *ctx)
{
	struct net_device *dev = (void *)ctx[0];
	u64 device = (u64)dev;
	struct capture_interface *i = map_lookup(&interfaces, &device);

	if (i && !(s32)ctx[4])
		note(dev, i->registered);
	return 0;
}

static long forget(void *map, struct capture_key *key, void *value, u64 *device)
{
	if (key->device == *device)
		map_delete(&latest, key);
	return 0;
}

/* The address may be another device's afterwards. */
SEC("fentry/netdev_unregister_kobject")
int capture_unregister(u64 *ctx)
{
	u64 device = ctx[0];

	map_delete(&interfaces, &device);
	for_each(&latest, forget, &device, 0);
	return 0;
}

/* Some of the helpers are for programs under this licence only. */
char licence[] SEC("license") = "GPL";
