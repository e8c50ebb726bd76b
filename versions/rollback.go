// SPDX-License-Identifier: Apache-2.0

package versions

import (
	"strings"

	"github.com/lupatch/lupatch/internal/refuse"
)

// CheckRollback says which updates have to go, in this order, so that the update
// name is taken back: what stands on it, the newest first, then itself. An empty
// name means the newest. Without later it is refused if anything stands on it. The
// refusals: NotApplied, NotNewest, KernelBusy.
func (s *State) CheckRollback(name string, later bool) ([]*Update, error) {
	var found *Update
	for i := range s.Updates {
		u := &s.Updates[i]
		if u.InForce() && (name == "" || u.Manifest.Name == name || u.Module == name) {
			found = u
			break
		}
	}
	if found == nil {
		return nil, s.nothing(name)
	}
	list := s.above(found)
	if len(list) > 0 && !later {
		verb := "stands"
		if len(list) > 1 {
			verb = "stand"
		}
		return nil, refuse.New(refuse.NotNewest, found.Manifest.Name, "%s %s on it", names(list), verb)
	}
	list = append(list, found)
	for _, p := range s.livepatches() {
		if p.Transition && p.Name != list[0].Module {
			return nil, refuse.New(refuse.KernelBusy, found.Manifest.Name, "the livepatch %s is in transition", p.Name)
		}
	}
	return list, nil
}

func (s *State) nothing(name string) error {
	if name == "" {
		return refuse.New(refuse.NotApplied, "", "no update is applied")
	}
	for _, u := range s.Resident {
		if u.Manifest.Name == name || u.Module == name {
			return refuse.New(refuse.NotApplied, name, "it has been taken back already; only its module is still in memory")
		}
	}
	for _, p := range s.Foreign {
		if p.Name == name {
			return refuse.New(refuse.NotApplied, name, "it is a livepatch that lupatch did not load and does not touch")
		}
	}
	return refuse.New(refuse.NotApplied, name, "there is no such update in the kernel")
}

func names(list []*Update) string {
	var out []string
	for _, u := range list {
		out = append(out, u.Manifest.Name)
	}
	return strings.Join(out, ", ")
}
