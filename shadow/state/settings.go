// SPDX-License-Identifier: Apache-2.0

package state

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Settings is everything that can be read of an interface and that somebody may
// have set: settings by name (rings, coalesce), their fields, and values. What the
// link or the traffic changes is left out; of secrets there is a digest.
type Settings map[string]map[string]string

// Difference is a field whose value is not what it was.
type Difference struct {
	Setting string `json:"setting"`
	Field   string `json:"field"`
	// Before and After are empty where the field was not there.
	Before string `json:"before,omitempty"`
	After  string `json:"after,omitempty"`
	// Negotiated says that the link partner has a say in it: it may be different
	// because the link is not up yet, or was up before.
	Negotiated bool `json:"negotiated,omitempty"`
}

// String tells sets by what was lost and what has come.
func (d Difference) String() string {
	if a, ok := members(d.Before); ok {
		if b, ok := members(d.After); ok {
			var parts []string
			if lost := without(a, b); len(lost) > 0 {
				parts = append(parts, "lost "+strings.Join(lost, " "))
			}
			if come := without(b, a); len(come) > 0 {
				parts = append(parts, "has "+strings.Join(come, " ")+" besides")
			}
			if len(parts) > 0 {
				return fmt.Sprintf("%s: %s %s", d.Setting, d.Field, strings.Join(parts, ", "))
			}
		}
	}
	return fmt.Sprintf("%s: %s was %s, is %s", d.Setting, d.Field, cmp.Or(d.Before, "nothing"), cmp.Or(d.After, "nothing"))
}

// members takes apart what braces made; of one with a mask those that are set.
func members(s string) ([]string, bool) {
	on, _, _ := strings.Cut(s, " of ")
	if !strings.HasPrefix(on, "{") || !strings.HasSuffix(on, "}") {
		return nil, false
	}
	return strings.Fields(on[1 : len(on)-1]), true
}

func without(list, others []string) []string {
	return slices.DeleteFunc(slices.Clone(list), func(s string) bool { return slices.Contains(others, s) })
}

// ReadSettings reads them: by ethtool's netlink (since 5.6, CONFIG_ETHTOOL_NETLINK)
// all that it has, by ioctl what it does not have on 6.1 (receive-side scaling and
// flow rules), and besides what filters the interface has. A setting that the driver does not have is left out; one that it
// cannot read now is an error. It needs no privilege but for the password of
// wake-on-lan.
func ReadSettings(ctx context.Context, d Device) (Settings, error) {
	s := Settings{}
	err := d.inside(func(name string) error {
		if err := readNetlink(ctx, name, s); err != nil {
			return err
		}
		if err := readFilters(ctx, name, s); err != nil {
			return err
		}
		return withSocket(func(fd int) error {
			for setting, read := range byIoctl {
				fields, err := read(fd, name)
				if errors.Is(err, unix.EOPNOTSUPP) {
					continue
				}
				if err != nil {
					return fmt.Errorf("reading %s: %w", setting, err)
				}
				if len(fields) > 0 {
					s[setting] = fields
				}
			}
			return nil
		})
	})
	if err != nil {
		return nil, fmt.Errorf("reading the settings of %s: %w", d.Interface, err)
	}
	return s, nil
}

// Compare lists what differs, by name.
func Compare(before, after Settings) []Difference {
	var out []Difference
	for _, setting := range keys(before, after) {
		a, b := before[setting], after[setting]
		for _, field := range keys(a, b) {
			if a[field] != b[field] {
				out = append(out, Difference{setting, field, a[field], b[field], negotiated(setting, field, a)})
			}
		}
	}
	return out
}

// negotiated: with autonegotiation, drivers report what came of it (e1000 does so
// of pause frames).
func negotiated(setting, field string, before map[string]string) bool {
	return before["autoneg"] != "0" && field != "autoneg" &&
		(setting == linkModes && field != "advertised" || setting == "pause")
}

// digest stands for what is to be compared and not to be read.
func digest(b []byte) string {
	sum := sha256.Sum256(b)
	return fmt.Sprintf("%d bytes sha256:%x", len(b), sum[:8])
}

// keys are those of both, sorted, once each.
func keys[V any](a, b map[string]V) []string {
	list := slices.AppendSeq(slices.Collect(maps.Keys(a)), maps.Keys(b))
	slices.Sort(list)
	return slices.Compact(list)
}
