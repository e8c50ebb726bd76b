// SPDX-License-Identifier: Apache-2.0

package quiesce

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/lupatch/lupatch/bpf"
)

// Conflict is something else that is hooked to a function.
type Conflict struct {
	Unit     string `json:"unit"`
	Function string `json:"function"`
	// Kind is bpf, kprobe or ftrace.
	Kind string `json:"kind"`
	// Detail says what it is.
	Detail string `json:"detail"`
	// Blocks says that the update will not load while it is there; others only
	// cost time in every call.
	Blocks bool `json:"blocks,omitempty"`
}

// Conflicts looks for what is hooked to the functions at their shipped place: BPF
// programs, kprobes, other users of ftrace. unknown lists what could not be
// looked at, with the reason. It needs CAP_SYS_ADMIN.
func (o *Observer) Conflicts() (list []Conflict, unknown []string) {
	for _, look := range []func() ([]Conflict, error){o.bpfPrograms, o.kprobes, o.ftraced} {
		found, err := look()
		if err != nil {
			unknown = append(unknown, err.Error())
		}
		list = append(list, found...)
	}
	return list, unknown
}

// shipped finds the function whose shipped code has this name and module.
func (o *Observer) shipped(name, module string) *Function {
	for i := range o.functions {
		f := &o.functions[i]
		unit := f.Unit
		if unit == vmlinux {
			unit = ""
		}
		if f.Name == name && unit == module {
			return f
		}
	}
	return nil
}

func (o *Observer) bpfPrograms() ([]Conflict, error) {
	if o.kernel.Root != "" {
		return nil, nil
	}
	list, err := bpf.AttachedTo()
	var out []Conflict
	for _, a := range list {
		if f := o.shipped(a.Function, a.Module); f != nil {
			out = append(out, Conflict{f.Unit, f.Name, "bpf", "the BPF program " + a.Program + " is attached to it", false})
		}
	}
	return out, err
}

// kprobes reads debugfs's list: "address type symbol+offset [module] [flags]".
// One that is not at the entry has a breakpoint in the code, or a jump where
// there was none: the update's own check finds the code changed.
func (o *Observer) kprobes() ([]Conflict, error) {
	b, err := os.ReadFile(o.kernel.Path("/sys/kernel/debug/kprobes/list"))
	if errors.Is(err, os.ErrNotExist) {
		if _, err := os.Stat(o.kernel.Path("/sys/kernel/debug/tracing")); err == nil {
			return nil, nil // debugfs is there, and the kernel has no kprobes
		}
		return nil, errors.New("kprobes: debugfs is not mounted")
	}
	if err != nil {
		return nil, fmt.Errorf("looking for kprobes: %w", err)
	}
	var out []Conflict
	for line := range strings.Lines(string(b)) {
		fields := strings.Fields(line)
		if len(fields) < 3 {
			continue
		}
		name, offset, _ := strings.Cut(fields[2], "+")
		module := ""
		if len(fields) > 3 && !strings.HasPrefix(fields[3], "[") {
			module = fields[3]
		}
		f := o.shipped(name, module)
		if f == nil {
			continue
		}
		at, err := strconv.ParseUint(offset, 0, 64)
		if err != nil {
			continue
		}
		inside := at > 0 && !strings.Contains(line, "[FTRACE]") && !strings.Contains(line, "[DISABLED]")
		detail := fmt.Sprintf("a kprobe at its offset %#x", at)
		if inside {
			detail += ": the code in memory is not the shipped one while it is there"
		}
		out = append(out, Conflict{f.Unit, f.Name, "kprobe", detail, inside})
	}
	return out, nil
}

// ftraced reads tracefs's list of functions whose site is enabled: "name
// [module] (users) flags", and then, perhaps on lines of their own, by what.
func (o *Observer) ftraced() ([]Conflict, error) {
	var b []byte
	var err error
	for _, dir := range []string{"/sys/kernel/tracing", "/sys/kernel/debug/tracing"} {
		if b, err = os.ReadFile(o.kernel.Path(dir, "enabled_functions")); err == nil {
			break
		}
	}
	if errors.Is(err, os.ErrNotExist) {
		return nil, errors.New("users of ftrace: tracefs is not mounted")
	}
	if err != nil {
		return nil, fmt.Errorf("looking for users of ftrace: %w", err)
	}
	var out []Conflict
	for line := range strings.Lines(string(b)) {
		if line[0] == ' ' || line[0] == '\t' {
			continue
		}
		name, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		module := ""
		if strings.HasPrefix(rest, "[") {
			module, rest, _ = strings.Cut(rest[1:], "]")
		}
		f := o.shipped(name, module)
		if f == nil {
			continue
		}
		users, _, _ := strings.Cut(strings.TrimSpace(rest), ")")
		n, err := strconv.Atoi(strings.TrimPrefix(users, "("))
		if f.Module != "" {
			n-- // the livepatches on one function share one user
		}
		if err == nil && n <= 0 {
			continue
		}
		out = append(out, Conflict{f.Unit, f.Name, "ftrace", fmt.Sprintf("its ftrace site has other users: %s", strings.Join(strings.Fields(rest), " ")), false})
	}
	slices.SortStableFunc(out, func(a, b Conflict) int { return strings.Compare(a.Function, b.Function) })
	return out, nil
}
