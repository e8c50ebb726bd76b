// SPDX-License-Identifier: Apache-2.0

// Package quiesce knows safe points: which tasks are inside functions that are
// to be replaced, when none is, and what a transition waits for.
//
// The kernel's own check decides (klp_check_stack, kernel/livepatch/
// transition.c); nothing here changes what it decides. A pass over all tasks
// says before the update is loaded what that check will find, and while a
// transition runs, why it finds it. Passes are made by a BPF iterator or, where
// the kernel or the privilege does not allow that, by procfs.
package quiesce

import (
	"context"

	"github.com/lupatch/lupatch/bpf"
	"github.com/lupatch/lupatch/kpatch"
)

// Function is a function whose place in memory a transition looks for on stacks.
type Function struct {
	// Unit is vmlinux or the module that the function belongs to.
	Unit string `json:"unit"`
	Name string `json:"function"`
	// Sympos is the kernel's count among symbols of one name; 0 if unique.
	Sympos int `json:"sympos,omitempty"`
	// Module is the livepatch whose version of it is in force, as that is the one
	// the kernel looks for; empty if it is the shipped version.
	Module string `json:"module,omitempty"`
}

// vmlinux is the unit that has no module name in kallsyms.
const vmlinux = "vmlinux"

// home is the module, in the words of kallsyms, that has the version in force.
func (f *Function) home() string {
	switch {
	case f.Module != "":
		return f.Module
	case f.Unit == vmlinux:
		return ""
	}
	return f.Unit
}

// Ways to look at tasks.
const (
	WayBPF    = "bpf"
	WayProcfs = "procfs"
)

// Observer looks at the tasks of a host. It is for one goroutine at a time.
type Observer struct {
	// Way is how tasks are looked at, WayBPF or WayProcfs; Why says why it is
	// not BPF, and is empty otherwise.
	Way, Why string

	kernel    *kpatch.Kernel
	iter      *bpf.TaskIter
	functions []Function
	symbols   *symbols // nil if addresses are hidden
	spans     []span
	blind     []Function
	nohz      map[int]bool
}

// Open prepares to look for functions. It reads the kernel's symbols (some
// 100,000 lines), which takes longer than a pass, so that Pass can come just
// before the moment it is about. It needs root (CAP_BPF and CAP_PERFMON, or CAP_SYS_ADMIN
// for procfs; CAP_SYSLOG for addresses). The observer has to be closed.
func Open(k *kpatch.Kernel, functions []Function) (*Observer, error) {
	o := &Observer{Way: WayProcfs, kernel: k, functions: functions, nohz: nohzFull(k)}
	var err error
	if o.symbols, err = readSymbols(k); err != nil {
		return nil, err
	}
	o.resolve()
	switch {
	case k.Root != "":
		o.Why = "it is not the kernel that this runs on"
	case o.symbols == nil:
		o.Why = "the kernel hides addresses (kernel.kptr_restrict)"
	default:
		o.Way = WayBPF
		o.attach()
	}
	return o, nil
}

// attach opens the iterator; without it procfs it is from then on.
func (o *Observer) attach() {
	it, err := bpf.OpenTasks()
	if err != nil {
		o.Way, o.Why = WayProcfs, err.Error()
		return
	}
	o.iter = it
}

// Close leaves nothing of it in the kernel. A later look opens what it needs
// again.
func (o *Observer) Close() error {
	if o.iter == nil {
		return nil
	}
	err := o.iter.Close()
	o.iter = nil
	return err
}

// UseProcfs makes an observer look through procfs although it could use BPF.
func (o *Observer) UseProcfs(why string) error {
	o.Way, o.Why = WayProcfs, why
	return o.Close()
}

// read gives all threads, by whatever way.
func (o *Observer) read(ctx context.Context) ([]Task, error) {
	if o.Way == WayBPF && o.iter == nil {
		o.attach()
	}
	if o.Way == WayProcfs {
		return o.readProcfs(ctx)
	}
	list, err := o.iter.Read(ctx)
	if err != nil {
		return nil, err
	}
	out := make([]Task, len(list))
	for i := range list {
		out[i] = o.fromBPF(&list[i])
	}
	return out, nil
}
