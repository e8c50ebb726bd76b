// SPDX-License-Identifier: Apache-2.0

package labtest

import (
	"fmt"
	"hash/fnv"
	"os"
	"strings"
	"testing"
)

// Thorough, in the environment as LUPATCH_THOROUGH, has tests run in full that are a
// sample otherwise, so that `make test` ends in time (make test-thorough).
func Thorough() bool { return os.Getenv("LUPATCH_THOROUGH") != "" }

// sampleSeed is that of the sample that `make test` runs.
const sampleSeed = 7

// Draw picks one of n, from 0, for a part of a test: always the same one.
func Draw(name string, n int) int {
	h := fnv.New64a()
	fmt.Fprint(h, sampleSeed, name)
	return int(h.Sum64() % uint64(n))
}

// Drawn says whether a part of a test is in the sample, which has one in n of them.
func Drawn(name string, n int) bool { return Thorough() || Draw(name, n) == 0 }

// OnlyThorough skips a test that the sample of `make test` does without, and says what
// has the same in it.
func OnlyThorough(t testing.TB, instead string) {
	t.Helper()
	if !Thorough() {
		t.Skip("only in `make test-thorough`: " + instead)
	}
}

// Sample skips a test that is not in the sample of one in n.
func Sample(t testing.TB, n int) {
	t.Helper()
	if !Drawn(t.Name(), n) {
		t.Skip("not in the sample; `make test-thorough` has it")
	}
}

// OneOf skips part i of a test that has n of them, unless it is the one in the sample.
func OneOf(t testing.TB, i, n int) {
	t.Helper()
	of, _, _ := strings.Cut(t.Name(), "/")
	if !Thorough() && i != Draw(of, n) {
		t.Skip("not in the sample; `make test-thorough` has it")
	}
}
