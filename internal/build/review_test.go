// SPDX-License-Identifier: Apache-2.0

package build_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestConcurrencyPoints: the source of a function, an inline function of a header
// that the patch does not touch, and an __init function, which is not replaced.
func TestConcurrencyPoints(t *testing.T) {
	realTree(t)
	res, err := attempt(t, diffOf(t,
		edit{versionC, "#include \"internal.h\"\n", "#include <linux/fs_struct.h>\n#include <linux/mutex.h>\n#include <linux/path.h>\n#include \"internal.h\"\n\nstatic DEFINE_MUTEX(version_lock);\n"},
		before("", "\tstruct path root;\n\n\trcu_read_lock();\n\trcu_read_unlock();\n\tget_fs_root(current->fs, &root);\n\tpath_put(&root);\n\tsmp_wmb();\n"),
		edit{versionC, "\tpde_make_permanent(pde);\n", "\tmutex_lock(&version_lock);\n\tpde_make_permanent(pde);\n\tmutex_unlock(&version_lock);\n"},
	))
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"mixed-version concurrency: version_proc_show of vmlinux: reference counting: +path_put",
		"mixed-version concurrency: version_proc_show of vmlinux: RCU: +rcu_read_lock +rcu_read_unlock",
		"mixed-version concurrency: version_proc_show of vmlinux: memory barriers: +smp_wmb",
		"mixed-version concurrency: version_proc_show of vmlinux: locking: +_raw_spin_lock +_raw_spin_unlock",
	}
	if d := cmp.Diff(want, res.Manifest.Review); d != "" {
		t.Errorf("-want +got\n%s", d)
	}
	if d := cmp.Diff([]string{"proc_version_init"}, res.Manifest.Units[0].AlreadyRan); d != "" {
		t.Errorf("already ran: -want +got\n%s", d)
	}
}
