// SPDX-License-Identifier: Apache-2.0

package build

import (
	"maps"
	"slices"
	"strings"

	"github.com/lupatch/lupatch/internal/kbuild"
)

// laidOut gives the changed files as they are to be compiled: headers with
// #line directives, so that the lines behind a change keep their numbers. In a
// C file the line map tells which numbers have moved; a header's lines come up
// in the functions of any file.
func (c *change) laidOut() map[string][]byte {
	out := maps.Clone(c.files)
	for name, text := range c.files {
		if strings.HasSuffix(name, ".c") || c.lines[name] == nil {
			continue
		}
		var moves []kbuild.Move
		for _, h := range c.lines[name].Hunks {
			moves = append(moves, kbuild.Move{New: h.NewStart + h.NewLines, Old: h.OldStart + h.OldLines})
		}
		out[name] = kbuild.KeepLineNumbers(text, moves)
	}
	return out
}

// first is the file that a refusal of the whole patch names.
func (c *change) first() string { return slices.Min(slices.Collect(maps.Keys(c.files))) }
