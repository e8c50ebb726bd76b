// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"errors"
	"fmt"
	"os"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/link"
)

// Attached is a BPF program at a function of the kernel (fentry, fexit,
// fmod_ret), reached by a trampoline that ftrace jumps to.
type Attached struct {
	// Program is its name, of at most 15 characters.
	Program string `json:"program"`
	// Function it is attached to, and the module that has it; empty for vmlinux.
	Function string `json:"function"`
	Module   string `json:"module,omitempty"`
}

// AttachedTo lists BPF programs that are attached to functions by links. It
// needs CAP_SYS_ADMIN, and Linux 5.13, before which a link does not name its
// target. Programs of kprobes are not listed: debugfs has all kprobes.
func AttachedTo() ([]Attached, error) {
	it := new(link.Iterator)
	defer it.Close()
	names := targets{}
	var out []Attached
	for it.Next() {
		info, err := it.Link.Info()
		if errors.Is(err, os.ErrNotExist) {
			continue // it went meanwhile
		}
		if err != nil {
			return nil, fmt.Errorf("looking at BPF links: %w", err)
		}
		t := info.Tracing()
		if info.Type != link.TracingType || t == nil || t.TargetBtfId == 0 {
			continue
		}
		fn, mod, err := names.function(btf.ID(t.TargetObjectId), btf.TypeID(t.TargetBtfId))
		if err != nil {
			continue // a target that is a BPF program, or a module that went
		}
		out = append(out, Attached{program(info.Program), fn, mod})
	}
	if err := it.Err(); err != nil {
		return nil, fmt.Errorf("listing BPF links: %w", err)
	}
	return out, nil
}

func program(id ebpf.ProgramID) string {
	p, err := ebpf.NewProgramFromID(id)
	if err != nil {
		return fmt.Sprintf("program %d", id)
	}
	defer p.Close()
	info, err := p.Info()
	if err != nil || info.Name == "" {
		return fmt.Sprintf("program %d", id)
	}
	return info.Name
}

// targets reads type information once for each binary of the kernel.
type targets map[btf.ID]*target

type target struct {
	spec   *btf.Spec
	module string
}

func (t targets) function(obj btf.ID, id btf.TypeID) (name, module string, err error) {
	b := t[obj]
	if b == nil {
		if b, err = readTarget(obj); err != nil {
			return "", "", err
		}
		t[obj] = b
	}
	typ, err := b.spec.TypeByID(id)
	if err != nil {
		return "", "", err
	}
	fn, ok := typ.(*btf.Func)
	if !ok {
		return "", "", fmt.Errorf("type %d is a %T", id, typ)
	}
	return fn.Name, b.module, nil
}

func readTarget(obj btf.ID) (*target, error) {
	h, err := btf.NewHandleFromID(obj)
	if err != nil {
		return nil, err
	}
	defer h.Close()
	info, err := h.Info()
	if err != nil {
		return nil, err
	}
	base, err := btf.LoadKernelSpec()
	if err != nil {
		return nil, err
	}
	if info.IsVmlinux() {
		return &target{base, ""}, nil
	}
	if !info.IsModule() {
		return nil, errors.New("not a binary of the kernel")
	}
	spec, err := h.Spec(base)
	if err != nil {
		return nil, err
	}
	return &target{spec, info.Name}, nil
}
