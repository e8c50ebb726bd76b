// SPDX-License-Identifier: Apache-2.0

package versions

import (
	"errors"
	"io/fs"
	"slices"

	"github.com/lupatch/lupatch/internal/manifest"
	"github.com/lupatch/lupatch/internal/refuse"
	"github.com/lupatch/lupatch/kpatch"
)

// Check says whether the update m, whose module has buildID, can be applied in
// this state. The refusals, in the order they are looked for: WrongRelease,
// AlreadyApplied, KernelBusy, ForeignLivepatch, WrongVersion for an update that
// it stands on and that is not in force, FunctionConflict, WrongUnit,
// WrongVersion.
func (s *State) Check(m *manifest.Manifest, buildID string) error {
	if m.Method != "livepatch" {
		return refuse.New(refuse.NotAnUpdate, m.Name, "it replaces a whole driver, which this lupatch cannot do")
	}
	if m.Release != s.Release {
		return refuse.New(refuse.WrongRelease, m.Name, "it is for kernel %s, this is %s", m.Release, s.Release)
	}
	for _, u := range s.Updates {
		if u.Manifest.Name != m.Name || !u.InForce() {
			continue
		}
		if u.BuildID != buildID {
			e := refuse.New(refuse.FunctionConflict, m.Name, "another build of the same update is in the kernel")
			e.Remedy = "roll it back first: lupatch rollback " + m.Name
			return e
		}
		if u.Livepatch.Transition && !u.Livepatch.Enabled {
			return refuse.New(refuse.KernelBusy, m.Name, "it is just being taken back")
		}
		return refuse.New(refuse.AlreadyApplied, m.Name, "it is in the kernel already, as module %s", u.Module)
	}
	for _, check := range []func(*manifest.Manifest, string) error{s.checkBusy, s.checkForeign, s.checkBases, s.checkConflict, s.checkUnits} {
		if err := check(m, buildID); err != nil {
			return err
		}
	}
	return nil
}

func (s *State) checkBusy(m *manifest.Manifest, _ string) error {
	for _, p := range s.livepatches() {
		if p.Transition {
			return refuse.New(refuse.KernelBusy, m.Name, "the livepatch %s is in transition", p.Name)
		}
	}
	return nil
}

func (s *State) livepatches() []kpatch.Livepatch {
	list := append([]kpatch.Livepatch{}, s.Foreign...)
	for _, u := range s.Updates {
		list = append(list, *u.Livepatch)
	}
	return list
}

func (s *State) checkForeign(m *manifest.Manifest, buildID string) error {
	for _, p := range s.Foreign {
		if p.Name == m.Name && p.BuildID != "" && p.BuildID == buildID {
			e := refuse.New(refuse.AlreadyApplied, m.Name, "it is in the kernel already, but it was not lupatch that loaded it")
			e.Remedy = "to have lupatch look after it, take it back by hand (echo 0 > /sys/kernel/livepatch/" + p.Name + "/enabled, then rmmod " + p.Name + ") and apply it again"
			return e
		}
		if p.Name == m.Name {
			return refuse.New(refuse.ForeignLivepatch, m.Name, "a livepatch of that name is in the kernel that is not lupatch's")
		}
		for _, o := range p.Objects {
			u := (&Update{Manifest: m}).unit(o.Name)
			if u == nil {
				continue
			}
			for _, f := range o.Functions {
				if replaces(u, f) {
					return refuse.New(refuse.ForeignLivepatch, m.Name, "%s of %s is replaced by the livepatch %s already", f.Name, o.Name, p.Name)
				}
			}
		}
	}
	return nil
}

// Contested names the foreign livepatches that replace a function which the
// update replaces in a unit, too: the newer of the two is in force.
func (s *State) Contested(u *Update, unit string) (out []string) {
	mu := u.unit(unit)
	if mu == nil || !u.InForce() {
		return nil
	}
	for _, p := range s.Foreign {
		if !p.Enabled && !p.Transition {
			continue
		}
		for _, o := range p.Objects {
			if o.Name == unit && slices.ContainsFunc(o.Functions, func(f kpatch.Function) bool { return replaces(mu, f) }) {
				out = append(out, p.Name)
			}
		}
	}
	return out
}

// checkConflict finds updates on the same function that m was not built on.
func (s *State) checkConflict(m *manifest.Manifest, _ string) error {
	for _, other := range s.Updates {
		if !other.InForce() || other.among(m.On) {
			continue
		}
		for i := range m.Units {
			u := &m.Units[i]
			theirs := other.unit(u.Name)
			if theirs == nil {
				continue
			}
			for _, f := range theirs.Functions {
				if !f.New && replaces(u, kpatch.Function{Name: f.Name, Sympos: sympos(f.Sympos)}) {
					return refuse.New(refuse.FunctionConflict, m.Name, "%s of %s is replaced by the update %s already", f.Name, u.Name, other.Manifest.Name)
				}
			}
		}
	}
	return nil
}

func (s *State) checkUnits(m *manifest.Manifest, _ string) error {
	for i := range m.Units {
		u := &m.Units[i]
		have, err := s.kernel.UnitBuildID(u.Name)
		switch {
		case errors.Is(err, fs.ErrNotExist) && u.Name != Vmlinux:
			// The module is not loaded: the update's own check, in its pre-patch
			// callback, looks at it when it comes.
		case err != nil:
			return err
		case have != u.BuildID:
			return refuse.New(refuse.WrongUnit, m.Name, "the running %s has build id %.12s…, the update was verified against %.12s…", u.Name, have, u.BuildID)
		}
		if err := s.checkVersion(m, u); err != nil {
			return err
		}
	}
	return nil
}

func replaces(u *manifest.Unit, f kpatch.Function) bool {
	for _, g := range u.Functions {
		if !g.New && g.Name == f.Name && sympos(g.Sympos) == sympos(f.Sympos) {
			return true
		}
	}
	return false
}

// sympos gives the position as sysfs shows it: 0, unique, is the first.
func sympos(n int) int { return max(n, 1) }
