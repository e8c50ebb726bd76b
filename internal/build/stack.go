// SPDX-License-Identifier: Apache-2.0

package build

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/lupatch/lupatch/internal/kbuild"
	"github.com/lupatch/lupatch/internal/manifest"
	"github.com/lupatch/lupatch/internal/refuse"
	"github.com/lupatch/lupatch/patchgen"
)

// An update that stands on others is built from the source as those make it.
// What it changes is what differs from that. What it may refer to, and where
// functions are redirected, is the shipped binary's all the same, so that this
// is what everything is verified against and laid out for.

// stack is what the new update stands on.
type stack struct {
	bases []base
	// inForce is the source with the bases in, overlay that laid out.
	inForce *change
	overlay *kbuild.Overlay
	// step is the new patch alone, on that source.
	step *change
}

func (s *stack) close() {
	if s != nil && s.overlay != nil {
		s.overlay.Close()
	}
}

// readStack applies the bases' patches and then the new one. j.change becomes
// the whole way from the shipped source to the new one.
func (j *job) readStack(bases []base, text []byte) error {
	src := j.tree.Src
	files, lines := map[string][]byte{}, map[string]*patchgen.LineMap{}
	for _, b := range bases {
		c, err := readPatchOn(b.manifest.Name, b.patch, src, files, max(DefaultFuzz, j.opt.Fuzz))
		if err != nil {
			return fmt.Errorf("applying the patch of %s: %w", b.file, err)
		}
		maps.Copy(files, c.files)
		if err := through(src, lines, c); err != nil {
			return err
		}
	}
	s := &stack{bases: bases, inForce: &change{files: maps.Clone(files), lines: maps.Clone(lines)}}
	var err error
	if s.step, err = readPatchOn(j.opt.Patch, text, src, files, j.opt.Fuzz); err != nil {
		return err
	}
	maps.Copy(files, s.step.files)
	if err := through(src, lines, s.step); err != nil {
		return err
	}
	whole := *s.step
	whole.files, whole.lines = files, lines
	j.change, j.stack = &whole, s
	return nil
}

// through follows the lines of the shipped source through one more patch.
func through(src string, lines map[string]*patchgen.LineMap, c *change) error {
	for name, next := range c.lines {
		before := lines[name]
		if before == nil {
			lines[name] = next
			continue
		}
		shipped, err := os.ReadFile(filepath.Join(src, name))
		if err != nil {
			return fmt.Errorf("comparing the versions of a file: %w", err)
		}
		lines[name] = before.Then(next, bytes.Count(shipped, []byte("\n"))+1)
	}
	return nil
}

// before gives a file as it is in force.
func (j *job) before(name string) ([]byte, error) {
	if j.stack != nil {
		if b, ok := j.stack.inForce.files[name]; ok {
			return b, nil
		}
	}
	return os.ReadFile(filepath.Join(j.tree.Src, name))
}

// ownPaths lists the files that the update changes: those of its own patch, or
// with a cumulative one of all.
func (j *job) ownPaths() []string {
	if j.stack != nil && !j.opt.Cumulative {
		return j.stack.step.paths()
	}
	return j.change.paths()
}

// cves lists what the update fixes.
func (j *job) cves() []string {
	out := slices.Clone(j.change.cves)
	if j.stack != nil && j.opt.Cumulative {
		for _, b := range j.stack.bases {
			out = append(out, b.manifest.Source.CVE...)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// replacedEarlier lists files of which the bases replace functions.
func (j *job) replacedEarlier() (out []string) {
	if j.stack == nil {
		return nil
	}
	for _, b := range j.stack.bases {
		for _, u := range b.manifest.Units {
			for _, f := range u.Functions {
				out = append(out, f.File)
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// stacked tells patchgen what is in force of a unit.
func (j *job) stacked(u *unit) (*patchgen.Stacked, error) {
	if j.stack == nil {
		return nil, nil
	}
	b, err := os.ReadFile(u.inForcePath)
	if err != nil {
		return nil, err
	}
	lines, err := patchgen.ReadExtents(b, u.tu.Source)
	if err != nil {
		return nil, fmt.Errorf("reading the source lines of %s: %w", u.tu.Source, err)
	}
	return &patchgen.Stacked{InForce: u.inForce, Lines: j.stack.step.lines[u.tu.Source], OldLines: lines, All: j.opt.Cumulative}, nil
}

// checkInForce: what the update leaves to those below it they have to replace.
func (j *job) checkInForce(u *unit) error {
	for _, name := range u.result.InForce {
		if !slices.ContainsFunc(j.stack.bases, func(b base) bool { return b.replaces(u.tu.Unit, u.tu.Source, name) }) {
			return refuse.New(refuse.EarlierUpdate, name, "the patches of the updates below change it, and none of those updates replaces it")
		}
	}
	return nil
}

// checkCumulative: a superset would do once more what its bases have done once.
func (s *stack) checkCumulative() error {
	for _, b := range s.bases {
		for _, u := range b.manifest.Units {
			for _, c := range u.Callbacks {
				return refuse.New(refuse.EarlierUpdate, c.Function, "it is a callback of %s, and a cumulative update would call it a second time", b.manifest.Name)
			}
			for _, d := range u.Data {
				if d.Action != string(patchgen.DataKeep) {
					return refuse.New(refuse.EarlierUpdate, d.Name, "%s writes this variable, and taking a cumulative update back would have to leave that", b.manifest.Name)
				}
			}
		}
	}
	return nil
}

// versionsOf gives the versions of a unit that the update needs and gives.
func (j *job) versionsOf(unit string) (needs, gives int) {
	if j.stack != nil {
		for _, b := range j.stack.bases {
			for _, u := range b.manifest.Units {
				if u.Name == unit {
					needs = max(needs, u.Gives)
				}
			}
		}
	}
	return needs, needs + 1
}

// on names the bases for the manifest.
func (j *job) on() (out []manifest.Base) {
	if j.stack == nil {
		return nil
	}
	for _, b := range j.stack.bases {
		out = append(out, manifest.Base{Update: b.manifest.Name, BuildID: b.buildID})
	}
	return out
}
