// SPDX-License-Identifier: Apache-2.0

package quiesce

import (
	"os"
	"strconv"
	"strings"

	"github.com/lupatch/lupatch/kpatch"
)

// nohzFull are the CPUs without a timer tick while one task runs there alone
// (nohz_full= on the kernel command line).
func nohzFull(k *kpatch.Kernel) map[int]bool {
	b, err := os.ReadFile(k.Path("/sys/devices/system/cpu/nohz_full"))
	if err != nil {
		return nil
	}
	return parseCPUs(strings.TrimSpace(string(b)))
}

// parseCPUs reads a list such as "1-3,7" (Documentation/admin-guide/cputopology).
// What cannot be read, "(null)" of kernels without the parameter among it, is no
// CPU.
func parseCPUs(list string) map[int]bool {
	const most = 1 << 16 // more than any kernel has: a range is not trusted
	out := map[int]bool{}
	for part := range strings.SplitSeq(list, ",") {
		a, b, isRange := strings.Cut(part, "-")
		from, err := strconv.Atoi(a)
		if err != nil {
			continue
		}
		to := from
		if isRange {
			if to, err = strconv.Atoi(b); err != nil {
				continue
			}
		}
		for c := max(0, from); c <= min(to, most); c++ {
			out[c] = true
		}
	}
	return out
}
