// SPDX-License-Identifier: Apache-2.0

package build

import (
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/lupatch/lupatch/internal/kbuild"
	"github.com/lupatch/lupatch/internal/manifest"
	"github.com/lupatch/lupatch/internal/sign"
)

// Options say what to build.
type Options struct {
	// Patch is the path of a unified diff.
	Patch string
	// Dir is a kernel tree, an O= folder or an out-of-tree module; empty for
	// the distribution's source of Release.
	Dir string
	// Release is the kernel to build for (uname -r).
	Release string
	// SourceVersion overrides the version of the distribution's packages.
	SourceVersion string
	// On are the files of updates to build on top of, all that will be in force,
	// the oldest first.
	On []string
	// Cumulative makes a superset of them: one update that carries all that they
	// change, too.
	Cumulative bool
	// Output is the file to write; empty means NAME.ko in the current folder.
	Output string
	// Name of the update; empty means one made from the patch's file name.
	Name string
	// AnyCompiler allows a compiler other than the kernel's own.
	AnyCompiler bool
	// NoVerify skips run-pre verification of functions that the patch does
	// not replace. What it replaces is compared in any case.
	NoVerify bool
	// Fuzz is how many outer lines of a hunk's context need not fit if its
	// place is then still the only one; 0 wants all of them.
	Fuzz int
	// Data is the author's word on variables whose initial value changes.
	Data []DataRule
	// ExtraFlags are put behind the compiler's own; for tests of verification.
	ExtraFlags []string
	// MaxUnits bounds the files that are compiled because of a changed header (0
	// means kbuild.MaxUnits), and those because of callers of functions that have
	// no ftrace site (0 means MaxCallers).
	MaxUnits int
	// Jobs bounds the compilers that run at once; 0 means one a processor.
	Jobs int
	// Version is that of the tool, for the manifest.
	Version string
	// Keys sign the update.
	Keys sign.Keys
	// Progress may be nil.
	Progress kbuild.Progress
}

// Stage is a part of the build and the time it took.
type Stage struct {
	Name string        `json:"name"`
	Took time.Duration `json:"took_ns"`
}

// Result is a finished update.
type Result struct {
	Path     string             `json:"path"`
	Manifest *manifest.Manifest `json:"manifest"`
	Stages   []Stage            `json:"stages"`
	// Notes are facts the user should know, one sentence each.
	Notes []string `json:"notes,omitempty"`
}

var unwanted = regexp.MustCompile(`[^a-z0-9]+`)

var validName = regexp.MustCompile(`^[a-z][a-z0-9_]*$`)

// ValidName reports whether an update, and with it its module, can be called
// that.
func ValidName(name string) bool { return len(name) <= manifest.MaxName && validName.MatchString(name) }

// nameOf makes an update's name out of a patch's file name.
func nameOf(patch string) string {
	base := filepath.Base(patch)
	base = strings.TrimSuffix(strings.TrimSuffix(base, ".patch"), ".diff")
	base = strings.Trim(unwanted.ReplaceAllString(strings.ToLower(base), "_"), "_")
	if !strings.HasPrefix(base, "lupatch") {
		base = "lupatch_" + base
	}
	// What follows is the room that package manifest keeps for generations.
	return strings.TrimRight(base[:min(len(base), manifest.MaxName)], "_")
}

// clock notes where the time goes.
type clock struct {
	stages   []Stage
	started  time.Time
	progress kbuild.Progress
}

// start ends the stage under way and begins the next; "" only ends.
func (c *clock) start(name string) {
	now := time.Now()
	if n := len(c.stages); n > 0 && c.stages[n-1].Took == 0 {
		c.stages[n-1].Took = now.Sub(c.started)
	}
	if name != "" {
		c.stages = append(c.stages, Stage{Name: name})
		if c.progress != nil {
			c.progress(name, 0, 0)
		}
	}
	c.started = now
}
