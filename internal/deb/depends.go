// SPDX-License-Identifier: Apache-2.0

package deb

import (
	"context"
	"fmt"
	"os/exec"
	"regexp"
	"strings"
)

// Depends gives the packages that a package needs (Depends and Pre-Depends), as
// sets of alternatives in the package's own order, without versions. The package
// is fetched for it. An empty version means the newest one.
func (c *Cache) Depends(ctx context.Context, pkg, version string) ([][]string, error) {
	file, err := c.Fetch(ctx, pkg, version)
	if err != nil {
		return nil, err
	}
	out, err := exec.CommandContext(ctx, "dpkg-deb", "-f", file, "Pre-Depends", "Depends").Output()
	if err != nil {
		return nil, fmt.Errorf("reading what %s depends on: %w", pkg, err)
	}
	return parseDepends(string(out)), nil
}

// dependencyRE is the name at the start of `libc6:any (>= 2.36) [amd64]`.
var dependencyRE = regexp.MustCompile(`^[a-z0-9][a-z0-9+.-]+`)

// parseDepends reads "Field: a (>= 1) | b, c" lines (Debian policy 7.1).
func parseDepends(text string) (sets [][]string) {
	for line := range strings.Lines(text) {
		_, list, ok := strings.Cut(line, ":")
		if !ok {
			continue
		}
		for _, item := range strings.Split(list, ",") {
			var set []string
			for _, alternative := range strings.Split(item, "|") {
				if name := dependencyRE.FindString(strings.TrimSpace(alternative)); name != "" {
					set = append(set, name)
				}
			}
			if len(set) > 0 {
				sets = append(sets, set)
			}
		}
	}
	return sets
}
