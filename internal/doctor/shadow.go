// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"errors"
	"io/fs"
	"strings"

	"github.com/lupatch/lupatch/shadow"
)

// shadow names every function that lupatch_shadow hooks at the moment: that is what
// it costs while it is loaded. Without it livepatches work as before.
func (h *Host) shadow(r *Report) {
	ask := h.Shadow
	if ask == nil {
		return // not this host's kernel
	}
	info, err := ask()
	switch {
	case errors.Is(err, fs.ErrNotExist):
		r.add(Apply, "shadow", OK, shadow.Module+" is not loaded: whole drivers cannot be replaced (lupatch shadow install)", "")
		return
	case err != nil:
		r.add(Apply, "shadow", Warn, "cannot be asked: "+firstLine(err.Error()), "run as root, with the "+shadow.Module+" of this lupatch (lupatch shadow build)")
		return
	}
	var names []string
	for _, hook := range info.Hooks {
		if hook.Enabled {
			names = append(names, hook.Name)
		}
	}
	cost := "; no packet passes there"
	if info.Session != 0 {
		cost = "; a driver is being replaced"
	}
	r.add(Apply, "shadow", OK, "loaded; it hooks "+strings.Join(names, ", ")+cost, "")
}

func askShadow() (*shadow.Info, error) {
	c, err := shadow.Open()
	if err != nil {
		return nil, err
	}
	defer c.Close()
	return c.Info()
}
