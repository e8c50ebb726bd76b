// SPDX-License-Identifier: Apache-2.0

package update

// sweep removes copies of updates that are neither in memory nor to be applied at the
// next boot, and marks of what was forced in earlier ones.
func (h *Host) sweep(list []*past) error {
	release, err := h.Kernel.Release()
	if err != nil {
		return err
	}
	keep := map[string]bool{}
	for _, u := range installed(list, release) {
		keep[u.module] = true
	}
	stored, err := h.Store.List()
	if err != nil {
		return err
	}
	for _, module := range stored {
		loaded, err := h.Kernel.Loaded(module)
		if err != nil {
			return err
		}
		if loaded || keep[module] {
			continue
		}
		if err := h.Store.Remove(module); err != nil {
			return err
		}
	}
	return h.forgetForced()
}
