// SPDX-License-Identifier: Apache-2.0

package doctor

import "strings"

// probation checks whether an update at fault can still be taken back.
func (h *Host) probation(r *Report) {
	if list := h.Kernel.PanicSettings(); len(list) > 0 {
		r.add(Apply, "probation", Warn, "cannot help against every fault: with "+strings.Join(list, ", ")+" the kernel panics instead", "set those to 0 while updates are applied, if this host can do without")
		return
	}
	r.add(Apply, "probation", OK, "no fault makes the kernel panic by a setting", "")
}
