// SPDX-License-Identifier: Apache-2.0

package patchgen

import (
	"regexp"

	"github.com/lupatch/lupatch/internal/refuse"
)

// enum is an enumeration; most have no name.
type enum struct {
	name   string
	names  []string
	values []int64
	max    int64
}

func (e *enum) add(name string, v int64) {
	if len(e.names) == 0 || v > e.max {
		e.max = v
	}
	e.names, e.values = append(e.names, name), append(e.values, v)
}

// counts matches names of constants that say how many others there are.
var counts = regexp.MustCompile(`(?i)max|last|num|count|end|limit|(^|_)(nr|n|size|total)(_|s?$)`)

// renumbered refuses constants that mean another number than before: memory of
// the running kernel may hold the old one, and code that the patch does not
// reach goes on using it. What counts the others may grow with them.
func renumbered(old, new []enum) error {
	now := map[string]int64{}
	for _, e := range new {
		for i, n := range e.names {
			now[n] = e.values[i]
		}
	}
	for _, e := range old {
		for i, n := range e.names {
			v, ok := now[n]
			if !ok || v == e.values[i] || v > e.values[i] && e.values[i] >= e.max-1 && counts.MatchString(n) {
				continue
			}
			return refuse.New(refuse.EnumValue, n, "the constant is %d in the running kernel and would be %d; memory may hold the old number", e.values[i], v)
		}
	}
	return nil
}
