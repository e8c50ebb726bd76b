/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What capture.bpf.c knows of the kernel and of its reader: helpers, the kernel's
 * types as far as they are used, user ABI, and the records that it writes.
 */
#ifndef LU_CAPTURE_H
#define LU_CAPTURE_H

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

#endif
