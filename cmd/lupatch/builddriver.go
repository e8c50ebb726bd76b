// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"

	"github.com/urfave/cli/v2"

	"github.com/lupatch/lupatch/internal/build"
)

// ofLivepatches are the flags of build that mean nothing for a whole driver.
var ofLivepatches = []string{"on", "cumulative", "data", "max-units", "no-verify"}

func (h *host) driverOptions(c *cli.Context) (build.DriverOptions, error) {
	opt := build.DriverOptions{
		Path: c.Args().First(), Source: c.String("source"), Patch: c.String("patch"),
		Dir: c.String("dir"), Release: c.String("kernel"), SourceVersion: c.String("source-version"),
		Output: c.String("output"), Name: c.String("name"), AnyCompiler: c.Bool("any-compiler"),
		Fuzz: c.Int("fuzz"), Jobs: c.Int("jobs"), Version: version,
	}
	for _, f := range ofLivepatches {
		if c.IsSet(f) {
			return opt, &usageError{fmt.Sprintf("--%s is not for --method driver", f), "build"}
		}
	}
	switch {
	case c.NArg() != 1:
		return opt, &usageError{"build --method driver needs one folder, C file or module", "build"}
	case opt.Fuzz < 0:
		return opt, &usageError{"--fuzz cannot be negative", "build"}
	case opt.Jobs < 0:
		return opt, &usageError{"--jobs cannot be negative", "build"}
	case opt.Name != "" && !build.ValidName(opt.Name):
		return opt, &usageError{"a name consists of small letters, digits and underscores and begins with a letter", "build"}
	}
	var err error
	if opt.Release, err = releaseFor(opt.Release, opt.Dir); err != nil {
		return opt, err
	}
	opt.Keys, err = h.keys(c)
	return opt, err
}
