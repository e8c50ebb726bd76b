// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/lupatch/lupatch/bpf"
)

// apply checks what a livepatch needs to be loaded and watched.
func (h *Host) apply(ctx context.Context, r *Report) {
	if runtime.GOARCH == "amd64" {
		r.add(Apply, "architecture", OK, "x86-64", "")
	} else {
		r.add(Apply, "architecture", Fail, runtime.GOARCH+" is not supported", "use an x86-64 host")
	}
	h.livepatch(ctx, r)
	h.privilege(r)
	h.modules(r)
	h.signatures(r)
	h.policy(r)
	h.namespace(r)
	if f, err := os.Open(h.Kernel.Path("/dev/kmsg")); err != nil {
		r.add(Apply, "kernel log", Warn, "/dev/kmsg cannot be read: a refusal of the kernel will come without its reason, and probation sees no fault", "run as root, outside a container")
	} else {
		f.Close()
		r.add(Apply, "kernel log", OK, "/dev/kmsg can be read", "")
	}
	h.probation(r)
	h.shadow(r)
}

func (h *Host) livepatch(ctx context.Context, r *Report) {
	if err := h.Kernel.Supported(); err != nil {
		r.add(Apply, "livepatch", Fail, "there is no /sys/kernel/livepatch", "boot a kernel with CONFIG_LIVEPATCH=y, such as Debian's, and mount /sys")
		return
	}
	r.add(Apply, "livepatch", OK, "the kernel has livepatch support", "")
	list, err := h.Kernel.List(ctx)
	if err != nil {
		r.add(Apply, "livepatches", Warn, err.Error(), "see `lupatch status`")
		return
	}
	for _, p := range list {
		if p.Transition {
			r.add(Apply, "transition", Warn, "the livepatch "+p.Name+" is in transition; the kernel does one at a time", "wait until `lupatch status` shows it done")
		}
	}
	r.add(Apply, "livepatches", OK, fmt.Sprintf("%d in the kernel", len(list)), "")
}

// capability names the capabilities lupatch uses, by bit number.
var capability = []struct {
	bit  int
	name string
	why  string
}{
	{unix.CAP_SYS_MODULE, "CAP_SYS_MODULE", "load modules"},
	{unix.CAP_SYS_ADMIN, "CAP_SYS_ADMIN", "see tasks' kernel stacks"},
	{unix.CAP_SYS_PTRACE, "CAP_SYS_PTRACE", "see tasks of others"},
}

func (h *Host) privilege(r *Report) {
	caps, err := h.Capabilities()
	if err != nil {
		r.add(Apply, "privilege", Warn, "the capabilities cannot be read: "+err.Error(), "run as root")
		return
	}
	var missing []string
	for _, c := range capability {
		if caps&(1<<c.bit) == 0 {
			missing = append(missing, c.name+" (to "+c.why+")")
		}
	}
	if len(missing) > 0 {
		r.add(Apply, "privilege", Fail, "this process lacks "+strings.Join(missing, ", "), "run as root, outside containers that drop them")
		return
	}
	r.add(Apply, "privilege", OK, "enough to load modules and to see tasks", "")
}

func (h *Host) modules(r *Report) {
	b, err := os.ReadFile(h.Kernel.Path("/proc/sys/kernel/modules_disabled"))
	if err == nil && strings.TrimSpace(string(b)) != "0" {
		r.add(Apply, "module loading", Fail, "switched off until the next boot (kernel.modules_disabled)", "boot without that setting")
		return
	}
	if _, err := h.Kernel.Modules(); err != nil {
		r.add(Apply, "module loading", Fail, err.Error(), "boot a kernel with CONFIG_MODULES=y")
		return
	}
	r.add(Apply, "module loading", OK, "allowed", "")
}

// watch checks for BPF, which predicts and explains. Nothing fails for want of
// it.
func (h *Host) watch(r *Report) {
	for _, f := range h.Features() {
		switch {
		case f.Err == nil:
			r.add(Watch, f.Name, OK, "there", "")
		case f.Missing():
			r.add(Watch, f.Name, Warn, "this kernel does not have it", "boot a kernel from "+f.Since+" on that is built with it")
		default:
			r.add(Watch, f.Name, Warn, "could not be tried: "+firstLine(f.Err.Error()), "run as root")
		}
	}
	switch ok, err := h.Mounted(); {
	case err != nil:
		r.add(Watch, "BPF file system", Warn, err.Error(), "mount -t bpf bpf /sys/fs/bpf")
	case !ok:
		r.add(Watch, "BPF file system", Warn, "not mounted", "mount -t bpf bpf /sys/fs/bpf")
	default:
		r.add(Watch, "BPF file system", OK, "mounted", "")
	}
	if n, err := h.PossibleCPUs(); err != nil {
		r.add(Watch, "CPUs", Warn, err.Error(), "mount /sys")
	} else {
		r.add(Watch, "CPUs", OK, fmt.Sprintf("%d possible", n), "")
	}
	h.capturing(r)
}

// capturing names every function that the capture is attached to: that is what it
// costs, at each call of one of them.
func (h *Host) capturing(r *Report) {
	s, err := h.Capturing()
	if err != nil {
		r.add(Watch, "capture", Warn, "cannot be seen: "+firstLine(err.Error()), "run as root")
		return
	}
	if !s.On {
		r.add(Watch, "capture", OK, "nothing is attached", "")
		return
	}
	named := func(list []bpf.Hook) string {
		var out []string
		for _, hook := range list {
			out = append(out, fmt.Sprintf("%s (%s, %s)", hook.Function, hook.At, hook.Program))
		}
		return strings.Join(out, ", ")
	}
	if len(s.Missing) > 0 {
		r.add(Watch, "capture", Warn, "not attached to "+named(s.Missing), "lupatch watch --start")
	}
	r.add(Watch, "capture", OK, "attached to "+named(s.Attached)+"; no packet passes there", "")
}

func firstLine(s string) string {
	s, _, _ = strings.Cut(s, "\n")
	return s
}
