// SPDX-License-Identifier: Apache-2.0

// Package sample has tests run in part, so that `make test` ends in time. The sample is
// the same each time; `make test-thorough` runs all.
package sample

import (
	"fmt"
	"hash/fnv"
	"os"
	"testing"
)

// Thorough, in the environment as LUPATCH_THOROUGH, has all tests run.
func Thorough() bool { return os.Getenv("LUPATCH_THOROUGH") != "" }

const seed = 7

// Draw picks one of n, from 0, for a part of a test: always the same one.
func Draw(name string, n int) int {
	h := fnv.New64a()
	fmt.Fprint(h, seed, name)
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

// Of skips a test that is not in the sample of one in n.
func Of(t testing.TB, n int) {
	t.Helper()
	if !Drawn(t.Name(), n) {
		t.Skip("not in the sample; `make test-thorough` has it")
	}
}

// OneOf skips part i of n, unless it is the one in the sample. The name is that of all.
func OneOf(t testing.TB, name string, i, n int) {
	t.Helper()
	if !Thorough() && i != Draw(name, n) {
		t.Skip("not in the sample; `make test-thorough` has it")
	}
}
