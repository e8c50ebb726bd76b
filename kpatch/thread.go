// SPDX-License-Identifier: Apache-2.0

package kpatch

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/lupatch/lupatch/internal/refuse"
)

// Thread is all that procfs tells of a thread's way through a transition.
type Thread struct {
	PID, TID int
	Comm     string
	// State is the letter of ps(1).
	State byte
	CPU   int
	// Kthread says that it is one of the kernel's own.
	Kthread bool
	// PatchState is -1 without a transition.
	PatchState int
	// Places are its stack, innermost first; none while it runs. Cut says that
	// it goes on where procfs stops.
	Places []Place
	Cut    bool
}

// Place is a return address as the kernel prints it: function+offset/size.
type Place struct {
	Frame
	Offset, Size uint64
}

// Threads calls f for every thread. It reads several files of each, so that some
// 10,000 threads take a second; one that ends meanwhile is left out. It needs
// CAP_SYS_ADMIN, else the refusal is NotPermitted.
func (k *Kernel) Threads(ctx context.Context, f func(Thread)) error {
	list, err := k.threads()
	if err != nil {
		return err
	}
	for _, id := range list {
		if err := ctx.Err(); err != nil {
			return err
		}
		t, err := k.thread(id)
		if gone(err) {
			continue
		}
		if denied(err) {
			return refuse.New(refuse.NotPermitted, id.tid, "reading the stack of a task was denied")
		}
		if err != nil {
			return fmt.Errorf("reading task %s: %w", id.tid, err)
		}
		f(*t)
	}
	return nil
}

func (k *Kernel) thread(id threadID) (*Thread, error) {
	t := &Thread{PatchState: int(stateUndefined)}
	t.PID, _ = strconv.Atoi(id.pid)
	t.TID, _ = strconv.Atoi(id.tid)
	// The state is read before the stack: a task that is asleep in the first
	// and has no stack in the second has begun to run.
	b, err := os.ReadFile(id.file(k, "stat"))
	if err != nil {
		return nil, err
	}
	text := strings.ToValidUTF8(string(b), "?")
	from, to := strings.IndexByte(text, '('), strings.LastIndexByte(text, ')')
	if from < 0 || to < from {
		return nil, fmt.Errorf("a stat file that cannot be read")
	}
	// proc(5): fields 3, 9 and 39. PF_KTHREAD is in include/linux/sched.h.
	const stateField, flagsField, cpuField, kthread = 3 - 3, 9 - 3, 39 - 3, 0x00200000
	fields := strings.Fields(text[to+1:])
	if len(fields) <= cpuField {
		return nil, fmt.Errorf("a stat file that cannot be read")
	}
	t.Comm, t.State = text[from+1:to], fields[stateField][0]
	flags, _ := strconv.ParseUint(fields[flagsField], 10, 64)
	t.Kthread = flags&kthread != 0
	if t.CPU, err = strconv.Atoi(fields[cpuField]); err != nil {
		return nil, err
	}
	if s, err := k.patchState(id); err == nil {
		t.PatchState = int(s)
	} else if !gone(err) {
		return nil, err
	}
	b, err = os.ReadFile(id.file(k, "stack"))
	if err != nil && !gone(err) {
		return nil, err
	}
	t.Places = parsePlaces(string(b))
	t.Cut = len(t.Places) >= stackMax
	return t, nil
}

func parsePlaces(text string) []Place {
	var out []Place
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) < 2 {
			continue
		}
		p := Place{Frame: parseStack(line)[0]}
		_, rest, _ := strings.Cut(f[1], "+")
		offset, size, _ := strings.Cut(rest, "/")
		p.Offset, _ = strconv.ParseUint(offset, 0, 64)
		p.Size, _ = strconv.ParseUint(size, 0, 64)
		out = append(out, p)
	}
	return out
}
