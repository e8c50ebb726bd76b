// SPDX-License-Identifier: Apache-2.0

package live

import (
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/lupatch/lupatch/internal/evidence/record"
	"github.com/lupatch/lupatch/internal/sample"
)

// Tests that end lupatch at the points of its journal have this in common: points have
// numbers from 1 and names, a run with the number 0 tells all names, and a table keeps
// what became of each point in a run of all of them.

// endedBy runs f for each way to end lupatch: kill is SIGKILL, power switches the host
// off. A sample has one of them, unless table names one to fill in the environment.
func endedBy(t *testing.T, table string, f func(t *testing.T, by string)) {
	t.Helper()
	for i, by := range []string{"kill", "power"} {
		t.Run(by, func(t *testing.T) {
			if os.Getenv(table) == "" {
				sample.OneOf(t, table, i, 2)
			}
			t.Parallel()
			hosts <- struct{}{}
			defer func() { <-hosts }()
			f(t, by)
		})
	}
}

// allPoints is the table that a run of all points fills; nil if the environment names
// none, and a sample is to be tried. env holds its path, with a % for the way.
func allPoints(t *testing.T, env, by, head, seconds string) *record.Table {
	t.Helper()
	pattern := os.Getenv(env)
	if pattern == "" {
		return nil
	}
	tree, err := record.TreeHash(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	table, err := record.Open(strings.Replace(pattern, "%", by, 1), head, tree, "point", "version", seconds)
	if err != nil {
		t.Fatal(err)
	}
	return table
}

// endAt is the environment in which lupatch ends at a point.
func (g guest) endAt(at int, by string) []string {
	g.t.Helper()
	g.sh("rm -f /tmp/points")
	return []string{"LUPATCH_CRASH_AT=" + strconv.Itoa(at), "LUPATCH_CRASH_BY=" + by, "LUPATCH_CRASH_LOG=/tmp/points"}
}

// points are those that lupatch came by.
func (g guest) points() []string {
	g.t.Helper()
	return strings.Split(g.sh("cat /tmp/points"), "\n")
}
