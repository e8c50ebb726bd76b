// SPDX-License-Identifier: Apache-2.0

package versions

import (
	"context"
	"errors"
	"io/fs"
	"slices"

	"github.com/lupatch/lupatch/internal/manifest"
	"github.com/lupatch/lupatch/internal/refuse"
	"github.com/lupatch/lupatch/kpatch"
)

// Vmlinux is the name of the unit that is the kernel itself.
const Vmlinux = "vmlinux"

// State is what a host's kernel runs at one moment.
type State struct {
	// Release of the kernel.
	Release string
	// Updates are lupatch's own livepatches in the kernel, the newest first.
	Updates []Update
	// Foreign are the others.
	Foreign []kpatch.Livepatch
	// Resident are modules of lupatch's whose livepatch is disabled and gone.
	Resident []Update
	// Damaged are modules whose copy in the store cannot be read, with the
	// reason: what the kernel has under that name counts as foreign.
	Damaged map[string]error

	kernel *kpatch.Kernel
}

// Update is one of lupatch's modules in the kernel.
type Update struct {
	Manifest *manifest.Manifest
	// Module is the name it is loaded under, BuildID its own.
	Module  string
	BuildID string
	// Livepatch is nil if it is resident only.
	Livepatch *kpatch.Livepatch
}

// InForce says whether tasks run it: it is enabled, or on its way out of it.
func (u *Update) InForce() bool {
	return u.Livepatch != nil && (u.Livepatch.Enabled || u.Livepatch.Transition)
}

// Read reads the state of a host. A livepatch is lupatch's own if the store has
// an update under its module's name and both have the same build id: a name
// alone could be anyone's.
func Read(ctx context.Context, k *kpatch.Kernel, store Store) (*State, error) {
	s := &State{kernel: k, Damaged: make(map[string]error)}
	var err error
	if s.Release, err = k.Release(); err != nil {
		return nil, err
	}
	patches, err := k.List(ctx)
	if err != nil {
		return nil, err
	}
	modules, err := k.Modules()
	if err != nil {
		return nil, err
	}
	left := make(map[string]*kpatch.Livepatch)
	for i := range patches {
		left[patches[i].Name] = &patches[i]
	}
	for _, m := range modules {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		u, err := s.own(store, m.Name)
		if err != nil {
			return nil, err
		}
		p := left[m.Name]
		switch {
		case u == nil:
			continue
		case p != nil:
			u.Livepatch = p
			s.Updates = append(s.Updates, *u)
			delete(left, m.Name)
		default:
			s.Resident = append(s.Resident, *u)
		}
	}
	for _, p := range patches {
		if left[p.Name] != nil {
			s.Foreign = append(s.Foreign, p)
		}
	}
	return s, nil
}

// own gives the update that is loaded as module, nil if it is not lupatch's.
func (s *State) own(store Store, module string) (*Update, error) {
	st, err := store.Get(module)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if _, ok := refuse.As(err); ok {
		s.Damaged[module] = err
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	id, err := s.kernel.ModuleBuildID(module)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil || id != st.BuildID {
		return nil, err
	}
	return &Update{Manifest: st.Manifest, Module: module, BuildID: id}, nil
}

// Version is the version a unit is at: what the newest update in force on it
// gives, 0 as shipped.
func (s *State) Version(unit string) int {
	v := 0
	for _, u := range s.Updates {
		if mu := u.unit(unit); mu != nil && u.InForce() {
			v = max(v, mu.Gives)
		}
	}
	return v
}

func (u *Update) unit(name string) *manifest.Unit {
	for i := range u.Manifest.Units {
		if u.Manifest.Units[i].Name == name {
			return &u.Manifest.Units[i]
		}
	}
	return nil
}

// With gives the state as it will be when the update m is applied on it.
func (s *State) With(m *manifest.Manifest, buildID string) *State {
	next := *s
	p := &kpatch.Livepatch{Name: m.Name, Update: m.Name, Generation: 1, Enabled: true}
	next.Updates = append([]Update{{Manifest: m, Module: m.Name, BuildID: buildID, Livepatch: p}}, s.Updates...)
	return &next
}

// Without gives the state as if the update that is loaded as module were not there.
func (s *State) Without(module string) *State {
	next := *s
	next.Updates = slices.DeleteFunc(slices.Clone(s.Updates), func(u Update) bool { return u.Module == module })
	return &next
}

// Units names every unit that an update in force changes, in order of first use.
func (s *State) Units() []string {
	var out []string
	seen := make(map[string]bool)
	for i := len(s.Updates) - 1; i >= 0; i-- {
		for _, u := range s.Updates[i].Manifest.Units {
			if !seen[u.Name] && s.Updates[i].InForce() {
				seen[u.Name] = true
				out = append(out, u.Name)
			}
		}
	}
	return out
}
