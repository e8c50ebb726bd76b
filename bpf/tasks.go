// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// Task is a thread as one pass of the task iterator saw it.
type Task struct {
	// TID and PID are the thread's number and its process's, those of the
	// initial namespace.
	TID, PID int
	Comm     string
	// State is the mask of TASK_ bits (0 is runnable), ExitState that of a task
	// that has ended (include/linux/sched.h).
	State     uint32
	ExitState int
	// Flags are PF_ bits (include/linux/sched.h); see Kthread.
	Flags uint32
	// CPU it is on, or was on last. OnCPU says that it is running there.
	CPU   int
	OnCPU bool
	// PatchState is -1 without a transition, 0 or 1 within one
	// (include/linux/livepatch.h), and -1 on a kernel without livepatches.
	PatchState int
	// Stack holds return addresses in the kernel, the innermost first, without
	// those in the scheduler itself (.sched.text). It is empty while the task
	// runs, unless it is the reader itself, which it tells apart.
	Stack []uint64
}

// StackMax is the number of frames at which a stack is cut off.
const StackMax = 127

// Kthread says whether the task is one of the kernel's own (PF_KTHREAD).
func (t *Task) Kthread() bool { return t.Flags&0x00200000 != 0 }

// Uninterruptible says whether it sleeps and no signal of a transition wakes it:
// those wake what is in TASK_INTERRUPTIBLE (set_notify_signal,
// include/linux/sched/signal.h). A task that a fatal signal alone would wake is not.
func (t *Task) Uninterruptible() bool { return t.State != 0 && t.State&1 == 0 }

// Ended says whether it has left its stack for good.
func (t *Task) Ended() bool { return t.ExitState != 0 }

// The C side asserts the same number.
const headSize = int(unsafe.Sizeof(tasksTaskHead{}))

var _ [56]struct{} = [headSize]struct{}{}

// TaskIter reads all threads of the host. Its program attaches to nothing and
// runs only while Read is at work; Close leaves nothing behind in the kernel.
type TaskIter struct {
	mu   sync.Mutex // the program has one buffer
	objs tasksObjects
	iter *link.Iter
	size int // of the last pass, in tasks
}

// OpenTasks loads the program. It needs CAP_BPF and CAP_PERFMON (or
// CAP_SYS_ADMIN) and Linux 5.9 with BTF. ebpf.ErrNotSupported is in the chain of
// the error if the kernel does not have what is needed, os.ErrPermission if this
// process may not use it.
func OpenTasks() (*TaskIter, error) {
	if _, err := os.Stat(BTF); errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("loading the task iterator: there is no %s: %w", BTF, ebpf.ErrNotSupported)
	}
	t := &TaskIter{}
	if err := loadTasksObjects(&t.objs, nil); err != nil {
		return nil, fmt.Errorf("loading the task iterator: %w", kind(err))
	}
	var err error
	if t.iter, err = link.AttachIter(link.IterOptions{Program: t.objs.DumpTask}); err != nil {
		t.objs.Close()
		return nil, fmt.Errorf("opening the task iterator: %w", kind(err))
	}
	return t, nil
}

// kind puts into the chain whether it is the kernel or the privilege that is
// lacking. A verifier that rejects the program is a kernel that cannot run it: a
// helper it does not know (EINVAL), a field it does not let programs read
// (EACCES); so is one without type information of itself or without iterators.
func kind(err error) error {
	var rejected *ebpf.VerifierError
	switch {
	case errors.Is(err, ebpf.ErrNotSupported), errors.Is(err, unix.EPERM):
		return err
	case errors.As(err, &rejected), errors.Is(err, btf.ErrNotFound), errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENOSYS):
		return fmt.Errorf("%w: %w", ebpf.ErrNotSupported, err)
	}
	return err
}

// Close takes the program out of the kernel.
func (t *TaskIter) Close() error {
	return errors.Join(t.iter.Close(), t.objs.Close())
}

// ErrIncomplete says that a pass ended before it had seen every task.
var ErrIncomplete = errors.New("the pass over all tasks is not complete")

// Read makes one pass. It is no snapshot: tasks go on while it runs, and one
// that begins or ends meanwhile may be missing. Idle tasks are not seen, nor, in
// a process namespace other than the first, tasks outside of it.
func (t *TaskIter) Read(ctx context.Context) ([]Task, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	r, err := t.iter.Open()
	if err != nil {
		return nil, fmt.Errorf("beginning a pass over all tasks: %w", err)
	}
	defer r.Close()
	list, err := decode(ctx, r, make([]Task, 0, t.size+t.size/8+64))
	t.size = len(list)
	if err != nil {
		return nil, err
	}
	return list, nil
}

// decode reads records until the one that ends a pass.
func decode(ctx context.Context, from io.Reader, list []Task) ([]Task, error) {
	const buffer = 32 << 10 // what the kernel gives in one read
	r := bufio.NewReaderSize(again{from}, buffer)
	var (
		head [headSize]byte
		addr [8 * StackMax]byte
	)
	for {
		if err := ctx.Err(); err != nil {
			return nil, fmt.Errorf("reading all tasks: %w", err)
		}
		if _, err := io.ReadFull(r, head[:]); errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return nil, ErrIncomplete
		} else if err != nil {
			return nil, fmt.Errorf("reading all tasks: %w", err)
		}
		var h tasksTaskHead
		if _, err := binary.Decode(head[:], binary.NativeEndian, &h); err != nil {
			return nil, fmt.Errorf("reading all tasks: %w", err)
		}
		if h.Pid == 0 {
			return list, nil
		}
		n := max(0, int(h.StackBytes))
		if n > len(addr) || n%8 != 0 {
			return nil, fmt.Errorf("reading all tasks: a stack of %d bytes", n)
		}
		if _, err := io.ReadFull(r, addr[:n]); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrIncomplete, err)
		}
		list = append(list, task(&h, addr[:n]))
	}
}

func task(h *tasksTaskHead, addr []byte) Task {
	t := Task{TID: int(h.Pid), PID: int(h.Tgid), State: h.State, ExitState: int(h.ExitState), Flags: h.Flags,
		CPU: int(h.Cpu), OnCPU: h.OnCpu != 0, PatchState: -1, Comm: name(h.Comm)}
	if h.Has&tasksTaskHasHAS_PATCH_STATE != 0 {
		t.PatchState = int(h.PatchState)
	}
	if h.Has&tasksTaskHasHAS_ON_CPU == 0 {
		t.OnCPU = h.State == 0 && len(addr) == 0 // one processor only
	}
	for i := 0; i < len(addr); i += 8 {
		t.Stack = append(t.Stack, binary.NativeEndian.Uint64(addr[i:]))
	}
	return t
}

func name(c [16]int8) string {
	var b strings.Builder
	for _, x := range c {
		if x == 0 {
			break
		}
		b.WriteByte(byte(x))
	}
	return strings.ToValidUTF8(b.String(), "?")
}

// again repeats reads that the kernel broke off to let others run: after a
// million objects without output it gives EAGAIN (MAX_ITER_OBJECTS,
// kernel/bpf/bpf_iter.c).
type again struct{ io.Reader }

func (a again) Read(b []byte) (int, error) {
	for {
		n, err := a.Reader.Read(b)
		if n > 0 || !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EINTR) {
			return n, err
		}
	}
}
