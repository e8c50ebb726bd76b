//go:build ignore

/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * One pass over all threads: who they are, how far they are in a transition,
 * and where in the kernel they are.
 *
 * An iterator attaches to nothing. It runs in the context of the process that
 * reads it and is gone when that closes it, so that the code which is about to
 * be replaced gets no second ftrace user. And the stack of a task that waits is
 * read without waking it or sending anything to it.
 *
 * All reads are plain loads through BTF pointers. bpf_probe_read_kernel() would
 * be shorter for the name, but lockdown=confidentiality takes it away.
 */
typedef unsigned char u8;
typedef unsigned int u32;
typedef int s32;
typedef unsigned long long u64;

#define SEC(name) __attribute__((section(name), used))
#define CORE __attribute__((preserve_access_index))
/* The second argument asks whether a field exists (BPF_FIELD_EXISTS). */
#define field_exists(field) __builtin_preserve_field_info(field, 2)

#define COMM_LEN 16
/*
 * kernel.perf_event_max_stack is 127 unless someone changed it; the livepatch
 * core itself gives up at 100 (MAX_STACK_ENTRIES).
 */
#define STACK_MAX 127

/* Of the kernel's types only what is used here; CO-RE finds the offsets. */
struct thread_info {
	u32 cpu;		/* on x86 since 5.16 */
} CORE;

struct task_struct {
	struct thread_info thread_info;
	u32 __state;		/* since 5.14 */
	u32 flags;
	s32 on_cpu;		/* with CONFIG_SMP */
	u32 cpu;		/* before 5.16 */
	s32 exit_state;
	s32 pid;
	s32 tgid;
	char comm[COMM_LEN];
	s32 patch_state;	/* with CONFIG_LIVEPATCH */
} CORE;

struct task_struct___before_5_14 {
	long state;
} CORE;

struct seq_file;

struct bpf_iter_meta {
	struct seq_file *seq;
} CORE;

struct bpf_iter__task {
	struct bpf_iter_meta *meta;
	struct task_struct *task;
} CORE;

/* Numbers of helpers are fixed for ever (include/uapi/linux/bpf.h). */
static long (*seq_write)(struct seq_file *, const void *, u32) = (void *)127;
static long (*get_task_stack)(struct task_struct *, void *, u32, u64) = (void *)141;

/* What is known of a task, beside the values themselves. */
enum task_has {
	HAS_PATCH_STATE = 1,
	HAS_ON_CPU = 2,
};

/* Before each stack; pid 0 marks the end of a pass that saw everything. */
struct task_head {
	s32 pid;
	s32 tgid;
	u32 state;
	s32 exit_state;
	u32 flags;
	u32 cpu;
	s32 on_cpu;
	s32 patch_state;
	enum task_has has;
	s32 stack_bytes;	/* or a negative error */
	char comm[COMM_LEN];
};

_Static_assert(sizeof(struct task_head) == 56, "the reader expects 56 bytes");

/* A program of its own for each reader, so that nobody else writes here. */
struct {
	struct task_head head;
	u64 stack[STACK_MAX];
} record;

SEC("iter/task")
int dump_task(struct bpf_iter__task *ctx)
{
	struct seq_file *seq = ctx->meta->seq;
	struct task_struct *task = ctx->task;
	struct task_head *h = &record.head;
	long n;
	int i;

	__builtin_memset(h, 0, sizeof(*h));
	if (!task) {
		seq_write(seq, h, sizeof(*h));
		return 0;
	}
	h->pid = task->pid;
	h->tgid = task->tgid;
	h->flags = task->flags;
	h->exit_state = task->exit_state;
	if (field_exists(task->__state))
		h->state = task->__state;
	else
		h->state = ((struct task_struct___before_5_14 *)task)->state;
	if (field_exists(task->thread_info.cpu))
		h->cpu = task->thread_info.cpu;
	else if (field_exists(task->cpu))
		h->cpu = task->cpu;
	if (field_exists(task->on_cpu)) {
		h->on_cpu = task->on_cpu;
		h->has |= HAS_ON_CPU;
	}
	if (field_exists(task->patch_state)) {
		h->patch_state = task->patch_state;
		h->has |= HAS_PATCH_STATE;
	}
#pragma unroll
	for (i = 0; i < COMM_LEN; i++)
		h->comm[i] = task->comm[i];
	n = get_task_stack(task, record.stack, sizeof(record.stack), 0);
	h->stack_bytes = n;
	if (n < 0)
		n = 0;
	if (n > sizeof(record.stack))
		n = sizeof(record.stack);
	/* Should the second write not fit, seq_file drops both and asks again. */
	seq_write(seq, h, sizeof(*h));
	seq_write(seq, record.stack, n);
	return 0;
}

/* Some of the helpers are for programs under this licence only. */
char licence[] SEC("license") = "GPL";
