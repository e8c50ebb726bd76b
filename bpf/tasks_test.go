// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"testing"
	"testing/iotest"

	"golang.org/x/sys/unix"
)

func record(t *testing.T, h tasksTaskHead, stack ...uint64) []byte {
	t.Helper()
	h.StackBytes = int32(8 * len(stack))
	var b bytes.Buffer
	for _, v := range []any{h, stack} {
		if err := binary.Write(&b, binary.NativeEndian, v); err != nil {
			t.Fatal(err)
		}
	}
	return b.Bytes()
}

func TestDecode(t *testing.T) {
	first := tasksTaskHead{Pid: 12, Tgid: 10, State: 1, Flags: 0x00200000, Cpu: 3, PatchState: 1, Has: tasksTaskHasHAS_PATCH_STATE | tasksTaskHasHAS_ON_CPU}
	copy(first.Comm[:], []int8{'a', ' ', -1, 0, 'x'})
	second := tasksTaskHead{Pid: 13, Tgid: 13, PatchState: 1}
	stream := append(record(t, first, 0xffffffff81000000, 0xffffffff81000010), record(t, second)...)
	whole := append(bytes.Clone(stream), record(t, tasksTaskHead{})...)
	list, err := decode(t.Context(), iotest.OneByteReader(bytes.NewReader(whole)), nil)
	if err != nil || len(list) != 2 {
		t.Fatalf("%+v, %v", list, err)
	}
	a, b := list[0], list[1]
	if a.TID != 12 || a.PID != 10 || a.Comm != "a ?" || !a.Kthread() || a.CPU != 3 || a.OnCPU || a.PatchState != 1 || len(a.Stack) != 2 || a.Stack[1] != 0xffffffff81000010 {
		t.Errorf("%+v", a)
	}
	// A kernel without the fields: no transition, and running is who has no stack.
	if b.PatchState != -1 || !b.OnCPU || b.Kthread() || b.Stack != nil {
		t.Errorf("%+v", b)
	}
	for n := range whole {
		if _, err := decode(t.Context(), bytes.NewReader(whole[:n]), nil); !errors.Is(err, ErrIncomplete) {
			t.Fatalf("cut off at %d: %v", n, err)
		}
	}
	bad := first
	bad.StackBytes = 8*StackMax + 8
	var buf bytes.Buffer
	if err := binary.Write(&buf, binary.NativeEndian, bad); err != nil {
		t.Fatal(err)
	}
	if _, err := decode(t.Context(), io.MultiReader(&buf, bytes.NewReader(make([]byte, 4096))), nil); err == nil || errors.Is(err, ErrIncomplete) {
		t.Errorf("a stack that is too long: %v", err)
	}
	if _, err := decode(t.Context(), iotest.ErrReader(unix.EIO), nil); !errors.Is(err, unix.EIO) {
		t.Errorf("a read error: %v", err)
	}
}

// The kernel asks to be asked again.
func TestDecodeAgain(t *testing.T) {
	r := &hesitant{rest: append(record(t, tasksTaskHead{Pid: 1, Tgid: 1}), record(t, tasksTaskHead{})...)}
	if list, err := decode(t.Context(), r, nil); err != nil || len(list) != 1 {
		t.Fatalf("%+v, %v", list, err)
	}
	if r.asked < 3 {
		t.Error("it never hesitated")
	}
}

type hesitant struct {
	rest  []byte
	asked int
}

func (h *hesitant) Read(b []byte) (int, error) {
	if h.asked++; h.asked%2 == 1 {
		return 0, unix.EAGAIN
	}
	n := copy(b, h.rest[:min(len(h.rest), 7)])
	h.rest = h.rest[n:]
	return n, nil
}
