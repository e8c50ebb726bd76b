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

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef int s32;
typedef unsigned long long u64;

#define SEC(name) __attribute__((section(name), used))
#define CORE __attribute__((preserve_access_index))

/* As a map is declared for libbpf: the type of a member carries its value. */
#define UINT(name, value) int (*name)[value]
#define TYPE(name, type) type *name
#define field_exists(field) __builtin_preserve_field_info(field, 2)

#define COMM_LEN 16
#define NAME_LEN 16		/* IFNAMSIZ */
#define INLINE_LEN 24		/* the union of struct ifreq, 64-bit */
#define DATA_LEN 256

/* include/uapi/linux/bpf.h; these numbers are fixed for ever. */
enum { BPF_MAP_TYPE_HASH = 1, BPF_MAP_TYPE_RINGBUF = 27 };
enum { BPF_NOEXIST = 1, BPF_F_NO_PREALLOC = 1 };

static void *(*map_lookup)(void *, const void *) = (void *)1;
static long (*map_update)(void *, const void *, const void *, u64) = (void *)2;
static long (*map_delete)(void *, const void *) = (void *)3;
static u64 (*current_pid_tgid)(void) = (void *)14;
static u64 (*current_uid_gid)(void) = (void *)15;
static long (*current_comm)(void *, u32) = (void *)16;
static long (*read_user)(void *, u32, const void *) = (void *)112;
static u64 (*boot_ns)(void) = (void *)125;
static long (*ringbuf_output)(void *, const void *, u64, u64) = (void *)130;
static void *(*current_task)(void) = (void *)158;
static long (*for_each)(void *, void *, void *, u64) = (void *)164;

/* Of the kernel's types only what is used here; CO-RE finds the offsets. */
struct ns_common {
	u32 inum;
} CORE;

struct net {
	struct ns_common ns;
} CORE;

typedef struct {
	struct net *net;
} possible_net_t;

struct net_device {
	char name[NAME_LEN];
	s32 ifindex;
	possible_net_t nd_net;
} CORE;

struct thread_info {
	u32 status;
} CORE;

struct task_struct {
	struct thread_info thread_info;
} CORE;

/*
 * User ABI (include/uapi/linux/if.h), so that offsets need no relocation, but a
 * load has to lie within one member.
 */
struct ifmap {
	u64 mem_start;
	u64 mem_end;
	u16 base_addr;
	u8 irq;
	u8 dma;
	u8 port;
};

struct ifreq {
	union {
		char ifrn_name[NAME_LEN];
	} ifr_ifrn;
	union {
		char ifru_slave[NAME_LEN];
		struct ifmap ifru_map;
	} ifr_ifru;
};

/* include/uapi/linux/sockios.h */
#define SIOCETHTOOL 0x8946
#define SIOCSMIIREG 0x8949
#define SIOCWANDEV 0x894A
#define SIOCSHWTSTAMP 0x89B0
#define SIOCDEVPRIVATE 0x89F0	/* and the fifteen after it */

/*
 * ethtool's requests that set something which no ioctl or netlink message gives
 * back, or only if one knows what to ask for (include/uapi/linux/ethtool.h).
 */
#define ETHTOOL_SEEPROM 0x0c
#define ETHTOOL_FLASHDEV 0x33
#define ETHTOOL_RESET 0x34
#define ETHTOOL_SRXNTUPLE 0x35
#define ETHTOOL_SET_DUMP 0x3e
#define ETHTOOL_STUNABLE 0x49
#define ETHTOOL_PERQUEUE 0x4b
#define ETHTOOL_PHY_STUNABLE 0x4f

#define TS_COMPAT 2		/* arch/x86/include/asm/thread_info.h */

struct capture_key {
	u64 device;	/* address of its struct net_device */
	u32 command;
	u32 setting;	/* which of those that the command sets */
};

enum capture_flags {
	/* Earlier ones with the same key carried something else. */
	FLAG_VARIED = 1,
	/* A 32-bit process made it: pointers and sizes are its. */
	FLAG_COMPAT = 2,
	/* What the request points to could not be read. */
	FLAG_NO_DATA = 4,
};

struct capture_request {
	u64 at;		/* CLOCK_BOOTTIME */
	u64 count;
	u32 pid;
	u32 uid;
	s32 result;
	enum capture_flags flags;
	u32 data_bytes;
	u32 netns;	/* that of the caller's socket, and so the interface's */
	s32 ifindex;
	u32 pad;
	char comm[COMM_LEN];
	char name[NAME_LEN];
	u8 inlined[INLINE_LEN];
	u8 data[DATA_LEN];
};

struct capture_call {
	struct capture_key key;
	struct capture_request request;
};

struct capture_interface {
	u64 registered;	/* CLOCK_BOOTTIME; 0 if before the watch began */
	s32 ifindex;
	u32 netns;
};

_Static_assert(sizeof(struct capture_key) == 16, "the reader expects 16 bytes");
_Static_assert(sizeof(struct capture_request) == 360, "the reader expects 360 bytes");
_Static_assert(sizeof(struct capture_interface) == 16, "the reader expects 16 bytes");

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
