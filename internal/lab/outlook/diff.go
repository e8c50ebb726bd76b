// SPDX-License-Identifier: Apache-2.0

package outlook

import (
	"errors"
	"fmt"
	"sort"
	"strings"
)

// Difference is one section that says something else than before.
type Difference struct {
	Section string   `json:"section"`
	Lost    []string `json:"lost,omitempty"` // lines that are no longer said
	New     []string `json:"new,omitempty"`  // lines that were not said before
}

func (d Difference) String() string {
	return fmt.Sprintf("%s: -%q +%q", d.Section, d.Lost, d.New)
}

// Backward is a counter that is smaller than before, or gone.
type Backward struct {
	Counter string `json:"counter"`
	Before  uint64 `json:"before"`
	After   uint64 `json:"after"`
	Gone    bool   `json:"gone,omitempty"`
}

func (b Backward) String() string {
	if b.Gone {
		return fmt.Sprintf("%s: gone, was %d", b.Counter, b.Before)
	}
	return fmt.Sprintf("%s: from %d back to %d", b.Counter, b.Before, b.After)
}

// Changes are what differs between two records.
type Changes struct {
	Differences []Difference `json:"differences,omitempty"`
	Backwards   []Backward   `json:"backwards,omitempty"`
}

// Diff compares two records of the same interfaces.
func Diff(before, after *Outlook) Changes {
	var c Changes
	for _, title := range keys(before.State, after.State) {
		lost, fresh := lines(before.State[title]), lines(after.State[title])
		if d := (Difference{title, minus(lost, fresh), minus(fresh, lost)}); len(d.Lost)+len(d.New) > 0 {
			c.Differences = append(c.Differences, d)
		} else if before.State[title] != after.State[title] {
			c.Differences = append(c.Differences, Difference{Section: title + " (order of lines)"})
		}
	}
	for _, name := range keys(before.Counters, nil) {
		was := before.Counters[name]
		is, ok := after.Counters[name]
		if !ok || is < was {
			c.Backwards = append(c.Backwards, Backward{name, was, is, !ok})
		}
	}
	return c
}

// Without leaves out sections and counters whose name contains one of the words:
// what the caller knows to be different, such as a driver's version.
func (c Changes) Without(words ...string) Changes {
	known := func(name string) bool {
		for _, w := range words {
			if strings.Contains(name, w) {
				return true
			}
		}
		return false
	}
	var rest Changes
	for _, d := range c.Differences {
		if !known(d.Section) {
			rest.Differences = append(rest.Differences, d)
		}
	}
	for _, b := range c.Backwards {
		if !known(b.Counter) {
			rest.Backwards = append(rest.Backwards, b)
		}
	}
	return rest
}

// Err is nil if nothing differs.
func (c Changes) Err() error {
	var errs []error
	for _, d := range c.Differences {
		errs = append(errs, errors.New(d.String()))
	}
	for _, b := range c.Backwards {
		errs = append(errs, errors.New(b.String()))
	}
	return errors.Join(errs...)
}

func lines(text string) []string {
	if text == "" {
		return nil
	}
	return strings.Split(text, "\n")
}

// minus gives the lines of a that b lacks, each as often as it lacks it.
func minus(a, b []string) (rest []string) {
	have := map[string]int{}
	for _, l := range b {
		have[l]++
	}
	for _, l := range a {
		if have[l]--; have[l] < 0 {
			rest = append(rest, l)
		}
	}
	return rest
}

func keys[V any](maps ...map[string]V) []string {
	seen := map[string]bool{}
	for _, m := range maps {
		for k := range m {
			seen[k] = true
		}
	}
	var all []string
	for k := range seen {
		all = append(all, k)
	}
	sort.Strings(all)
	return all
}
