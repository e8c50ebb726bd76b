// SPDX-License-Identifier: Apache-2.0

package versions

import (
	"fmt"
	"slices"
	"strings"

	"github.com/lupatch/lupatch/internal/manifest"
	"github.com/lupatch/lupatch/internal/refuse"
)

// Chain lists the updates in force on a unit in the order of the versions they
// give, the oldest first.
func (s *State) Chain(unit string) []*Update {
	var out []*Update
	for i := range s.Updates {
		if u := &s.Updates[i]; u.InForce() && u.unit(unit) != nil {
			out = append(out, u)
		}
	}
	slices.SortStableFunc(out, func(a, b *Update) int { return a.unit(unit).Gives - b.unit(unit).Gives })
	return out
}

// Missing says of each update in force what it stands on and the kernel does not
// run; nothing on a host where updates come and go by lupatch alone. Anybody may
// disable a livepatch below another one: since 5.1 ("livepatch: Remove ordering
// (stacking) of the livepatches") the kernel keeps no order.
func (s *State) Missing() (out []string) {
	for i := range s.Updates {
		u := &s.Updates[i]
		if !u.InForce() {
			continue
		}
		for _, b := range u.Manifest.On {
			if s.base(b) == nil {
				out = append(out, fmt.Sprintf("%s is in force without %s, on which it stands", u.Manifest.Name, b.Update))
			}
		}
	}
	return out
}

// base finds an update in force by its module's build id; nil if it is not.
func (s *State) base(b manifest.Base) *Update {
	for i := range s.Updates {
		if u := &s.Updates[i]; u.InForce() && u.BuildID == b.BuildID {
			return u
		}
	}
	return nil
}

func (u *Update) among(on []manifest.Base) bool {
	return slices.ContainsFunc(on, func(b manifest.Base) bool { return b.BuildID == u.BuildID })
}

// checkBases: all that the source had in it when m was built has to be in force.
func (s *State) checkBases(m *manifest.Manifest, _ string) error {
	if gaps := s.Missing(); len(gaps) > 0 {
		e := refuse.New(refuse.WrongVersion, m.Name, "%s: somebody else disabled that", gaps[0])
		e.Remedy = "roll back what stands on it: see `lupatch status`"
		return e
	}
	for _, b := range m.On {
		if s.base(b) != nil {
			continue
		}
		for _, u := range s.Updates {
			if u.InForce() && u.Manifest.Name == b.Update {
				e := refuse.New(refuse.WrongVersion, m.Name, "it stands on the update %s (build id %.12s…), and another build of that is applied (%.12s…)", b.Update, b.BuildID, u.BuildID)
				e.Remedy = "build it again --on the one that is applied"
				return e
			}
		}
		for _, p := range s.Foreign {
			if p.BuildID == b.BuildID {
				e := refuse.New(refuse.WrongVersion, m.Name, "it stands on the update %s, which is in the kernel, but of which lupatch has no copy in its store", b.Update)
				e.Remedy = "take that back by hand (echo 0 > /sys/kernel/livepatch/" + p.Name + "/enabled, then rmmod " + p.Name + ") and apply it again"
				return e
			}
		}
		e := refuse.New(refuse.WrongVersion, m.Name, "it stands on the update %s, which is not applied", b.Update)
		e.Remedy = "apply that first, or both at once, in this order"
		return e
	}
	return nil
}

// checkVersion: the unit has to be at the version that m needs, and to have come
// there by the updates that m stands on.
func (s *State) checkVersion(m *manifest.Manifest, u *manifest.Unit) error {
	chain := s.Chain(u.Name)
	at := 0
	if n := len(chain); n > 0 {
		at = chain[n-1].unit(u.Name).Gives
	}
	i := slices.IndexFunc(chain, func(have *Update) bool { return !have.among(m.On) })
	switch {
	case i >= 0:
		e := refuse.New(refuse.WrongVersion, m.Name, "%s is at version %d%s, the update needs version %d", u.Name, at, by(chain), u.Needs)
		e.Remedy = fmt.Sprintf("build it --on %s, or roll that back first: see `lupatch status`", chain[len(chain)-1].Manifest.Name)
		return e
	case at != u.Needs:
		return refuse.New(refuse.WrongVersion, m.Name, "%s is at version %d%s, the update needs version %d", u.Name, at, by(chain), u.Needs)
	}
	return nil
}

// by names the updates that made a version.
func by(chain []*Update) string {
	var names []string
	for _, u := range chain {
		names = append(names, u.Manifest.Name)
	}
	if len(names) == 0 {
		return ""
	}
	return " (" + strings.Join(names, ", ") + ")"
}

// above lists what stands on an update, directly or not, the newest first.
func (s *State) above(found *Update) []*Update {
	on := map[*Update]bool{found: true}
	for more := true; more; {
		more = false
		for i := range s.Updates {
			later := &s.Updates[i]
			if on[later] || !later.InForce() {
				continue
			}
			for below := range on {
				if later.standsOn(below) {
					on[later], more = true, true
					break
				}
			}
		}
	}
	var out []*Update
	for i := range s.Updates {
		if u := &s.Updates[i]; on[u] && u != found {
			out = append(out, u)
		}
	}
	return out
}

// standsOn says whether u was built with the changes of below in the source, or
// is on top of it in a unit of both.
func (u *Update) standsOn(below *Update) bool {
	if below.among(u.Manifest.On) {
		return true
	}
	for _, mu := range below.Manifest.Units {
		if l := u.unit(mu.Name); l != nil && l.Gives > mu.Gives {
			return true
		}
	}
	return false
}
