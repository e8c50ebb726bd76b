// SPDX-License-Identifier: Apache-2.0

package build

import (
	"slices"

	"github.com/lupatch/lupatch/internal/manifest"
	"github.com/lupatch/lupatch/internal/refuse"
	"github.com/lupatch/lupatch/kpatch"
	"github.com/lupatch/lupatch/patchgen"
)

// base is an update that the new one stands on.
type base struct {
	file     string
	manifest *manifest.Manifest
	buildID  string
	patch    []byte
}

// readBases reads update files, the oldest first.
func readBases(files []string) ([]base, error) {
	var out []base
	for _, f := range files {
		image, m, err := manifest.ReadModule(f)
		if err != nil {
			return nil, err
		}
		b := base{file: f, manifest: m}
		if b.patch, err = manifest.Patch(image, m); err != nil {
			return nil, err
		}
		if b.buildID, err = kpatch.ImageBuildID(image); err != nil {
			return nil, err
		}
		if b.buildID == "" {
			return nil, refuse.New(refuse.NotAnUpdate, f, "its module has no build id")
		}
		out = append(out, b)
	}
	return out, nil
}

// checkBases makes sure that the bases are for this kernel and that each has
// below it what it stands on.
func checkBases(bases []base, name, release, source string) error {
	seen := map[string]bool{}
	at := map[string]int{}
	for _, b := range bases {
		m := b.manifest
		switch {
		case m.Method != "livepatch":
			return refuse.New(refuse.NotAnUpdate, m.Name, "it replaces a whole driver, and nothing is built on that")
		case m.Release != release:
			return refuse.New(refuse.WrongRelease, m.Name, "it is for kernel %s, the new update is for %s", m.Release, release)
		case m.Source.Version != source:
			return refuse.New(refuse.WrongRelease, m.Name, "it was built from source version %s, this is %s", m.Source.Version, source)
		case len(m.Moved) > 0:
			// Which version of it each of its callers calls would be for every
			// later update to say.
			e := refuse.New(refuse.EarlierUpdate, m.Moved[0], "it has no ftrace site, and %s exchanges it by exchanging all that calls it: nothing is built on that", m.Name)
			e.Remedy = "roll that update back and put both changes into one"
			return e
		case seen[m.Name]:
			return refuse.New(refuse.FunctionConflict, m.Name, "two updates of this name are given")
		case m.Name == name:
			e := refuse.New(refuse.FunctionConflict, name, "it would stand on an update of its own name")
			e.Remedy = "give it another one with --name"
			return e
		}
		for _, below := range m.On {
			if !seen[below.BuildID] {
				e := refuse.New(refuse.WrongVersion, m.Name, "it stands on the update %s (build id %.12s…), which is not given before it", below.Update, below.BuildID)
				e.Remedy = "name all updates that are in force, the oldest first, each with --on"
				return e
			}
		}
		for _, u := range m.Units {
			if u.Needs != at[u.Name] {
				e := refuse.New(refuse.WrongVersion, m.Name, "it needs version %d of %s, and the updates before it make that version %d", u.Needs, u.Name, at[u.Name])
				e.Remedy = "name all updates that are in force, the oldest first, each with --on"
				return e
			}
			at[u.Name] = u.Gives
		}
		seen[m.Name], seen[b.buildID] = true, true
	}
	return nil
}

func (b base) replaces(unit, file, function string) bool {
	for _, u := range b.manifest.Units {
		if u.Name == unit && slices.ContainsFunc(u.Functions, func(f manifest.Function) bool { return !f.New && f.Name == function && f.File == file }) {
			return true
		}
	}
	return false
}

// checkBinaries: the bases were verified against the same binaries.
func (j *job) checkBinaries() error {
	if j.stack == nil {
		return nil
	}
	for _, b := range j.stack.bases {
		for _, u := range b.manifest.Units {
			id := j.image.BuildID
			if u.Name != patchgen.VMLinux {
				m := j.modules[u.Name]
				if m == nil {
					continue // nothing of it is under work
				}
				id = m.buildID
			}
			if u.BuildID != id {
				return refuse.New(refuse.WrongUnit, b.manifest.Name, "it was verified against %s of build id %.12s…, this is %.12s…", u.Name, u.BuildID, id)
			}
		}
	}
	return nil
}
