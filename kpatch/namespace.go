// SPDX-License-Identifier: Apache-2.0

package kpatch

import (
	"os"

	"github.com/lupatch/lupatch/internal/refuse"
)

// initialPIDs is the initial PID namespace: its number is fixed
// (PROC_PID_INIT_INO, include/linux/proc_ns.h, since Linux 3.8).
const initialPIDs = "pid:[4026531836]"

// SeesAllTasks checks that this process and its /proc are in the initial PID
// namespace, else it is a refuse.PIDNamespace: a transition waits for every task
// of the host, and one that cannot be seen cannot be named, nor looked at before
// a module is unloaded. A kernel without such namespaces passes.
func (k *Kernel) SeesAllTasks() error {
	for _, who := range []struct{ link, text string }{
		{"/proc/self/ns/pid", "this process is in a PID namespace"},
		// The first process of the namespace that /proc was mounted for. Without
		// the privilege to look, nothing can be applied either.
		{"/proc/1/ns/pid", "/proc is that of a PID namespace"},
	} {
		ns, err := os.Readlink(k.Path(who.link))
		if err != nil || ns == initialPIDs {
			continue
		}
		return refuse.New(refuse.PIDNamespace, "", "%s (%s), where only some of the host's tasks can be seen", who.text, ns)
	}
	return nil
}
