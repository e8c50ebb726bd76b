// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"time"

	"github.com/urfave/cli/v2"
)

// defaultQuiet is how long --wait-quiet waits if it does not say.
const defaultQuiet = time.Minute

// quietWait is the value of --wait-quiet, which may go without one.
type quietWait time.Duration

// Set reads a duration; "true" is what package flag gives for none.
func (q *quietWait) Set(s string) error {
	if s == "true" {
		*q = quietWait(defaultQuiet)
		return nil
	}
	d, err := time.ParseDuration(s)
	if err != nil || d <= 0 {
		return errors.New("not a positive duration such as 30s")
	}
	*q = quietWait(d)
	return nil
}

func (q *quietWait) String() string { return "" }

// IsBoolFlag has package flag accept it without a value.
func (q *quietWait) IsBoolFlag() bool { return true }

func quietFlag() *cli.GenericFlag {
	return &cli.GenericFlag{Name: "wait-quiet", Value: new(quietWait), Usage: "begin at a moment when no task is in what is replaced, and wait `[=TIME]` for one (" + defaultQuiet.String() + " if not given)"}
}

func quiet(c *cli.Context) time.Duration {
	if q, ok := c.Generic("wait-quiet").(*quietWait); ok && c.IsSet("wait-quiet") {
		return time.Duration(*q)
	}
	return 0
}
