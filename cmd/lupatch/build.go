// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"

	"github.com/lupatch/lupatch/internal/build"
	"github.com/lupatch/lupatch/internal/kbuild"
)

func (h *host) buildCommand() *cli.Command {
	return &cli.Command{
		Name:      "build",
		Usage:     "make an update from a source patch, or of a whole driver",
		ArgsUsage: "PATCH | DRIVER",
		Description: `Compiles the files that the patch touches, as they are and patched, proves that
source, configuration and compiler are those of the running kernel by comparing
the result with the shipped binary, and makes a livepatch of what differs. In a
configured kernel tree, a folder made with O=, or the folder of an out-of-tree
module (or with --dir) that source is used, and never written to. Elsewhere the
distribution's source and headers packages are fetched and unpacked once. Needs
no privilege.

With --method driver it compiles a whole driver, as it is in another version of the
kernel's source, against the kernel that it is to be loaded into. DRIVER is its
folder in the source, one of its C files or the module's name. Beside MODULE.ko comes
its manifest, MODULE.ko.lupatch.json: keep both together.

Examples:
   lupatch build fix.patch                             for the running kernel
   lupatch build --kernel 6.1.0-47-amd64 fix.patch     for another one
   lupatch build --dir ~/linux fix.patch               with a kernel tree
   lupatch build --name cve_2026_1 -o /tmp/u.ko fix.patch
   lupatch build --data max_users=write@pre fix.patch  also change a value in memory
   lupatch build --on first.ko --on second.ko third.patch
                                                       the source has those in
   lupatch build --key ops.key --key ops.pem fix.patch also sign it, see lupatch sign
   lupatch build --method driver drivers/net/ethernet/intel/e1000
                                                       the newest version of a driver
   lupatch build --method driver --source 6.1.176-1 virtio_net
   lupatch build --method driver --source ~/linux --patch fix.patch e1000
   lupatch build --json fix.patch | jq .path`,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "method", Value: "livepatch", Usage: "`METHOD`: livepatch, or driver for a whole driver"},
			&cli.StringFlag{Name: "source", Usage: "take the driver from `SOURCE`: a folder with a kernel's source, or a version of the distribution's, such as 6.1.176-1 or linux-source-6.1=6.1.176-1 (default: its newest)"},
			&cli.StringFlag{Name: "patch", Usage: "lay the patch `FILE` over the driver's source"},
			&cli.StringFlag{Name: "kernel", Aliases: []string{"k"}, Usage: "the kernel's `RELEASE`, as uname -r says it (default: the running one)"},
			&cli.StringFlag{Name: "dir", Aliases: []string{"C"}, Usage: "a `FOLDER` with a configured kernel tree or a module, instead of packages"},
			&cli.StringFlag{Name: "source-version", Usage: "`VERSION` of the distribution's packages, if not the release's own"},
			&cli.StringSliceFlag{Name: "on", Usage: "build on top of the update `FILE`; name all that will be in force, the oldest first"},
			&cli.BoolFlag{Name: "cumulative", Usage: "carry all that the updates of --on change, too, so that one transition switches all of it"},
			&cli.StringFlag{Name: "output", Aliases: []string{"o"}, Usage: "`FILE` to write (default: NAME.ko)"},
			&cli.StringFlag{Name: "name", Usage: "the update's `NAME` (default: from the patch's file name)"},
			keyFlag, certFlag, passwordFlag,
			&cli.StringSliceFlag{Name: "data", Usage: "what to do about a changed initial value: `VAR=ACTION` with write@pre or write@post (write the new value before or after the transition; the one found comes back on rollback) or keep; ACTION alone is for all variables, FILE:VAR=ACTION for one file's"},
			&cli.IntFlag{Name: "jobs", Aliases: []string{"j"}, Usage: "compilers at once (default: one a processor)"},
			&cli.IntFlag{Name: "max-units", Value: kbuild.MaxUnits, Usage: "how many files may have to be compiled because of a changed header (or, given, because they call a function without ftrace site; else 60)"},
			&cli.BoolFlag{Name: "any-compiler", Usage: "accept a compiler other than the kernel's; verification then decides"},
			&cli.BoolFlag{Name: "no-verify", Usage: "accept differences in functions that the patch does not replace"},
			&cli.IntFlag{Name: "fuzz", Value: build.DefaultFuzz, Usage: "outer `LINES` of a hunk's context that need not fit, if its place is still the only one"},
			jsonFlag,
		},
		Action: func(c *cli.Context) error {
			p := newStages(h.err, h.errTerminal && !c.Bool("json"))
			res, err := h.build(c, p.show)
			p.clear()
			if err != nil {
				var ce *kbuild.CompileError
				if errors.As(err, &ce) {
					fmt.Fprint(h.err, ce.Log)
				}
				return err
			}
			if c.Bool("json") {
				return printJSON(h.out, res)
			}
			printBuild(h.out, res)
			return nil
		},
	}
}

func (h *host) build(c *cli.Context, progress kbuild.Progress) (*build.Result, error) {
	switch c.String("method") {
	case "livepatch":
		opt, err := h.buildOptions(c)
		if err != nil {
			return nil, err
		}
		opt.Progress = progress
		return build.Run(c.Context, opt)
	case "driver":
		opt, err := h.driverOptions(c)
		if err != nil {
			return nil, err
		}
		opt.Progress = progress
		return build.Driver(c.Context, opt)
	}
	return nil, &usageError{"--method is livepatch or driver", "build"}
}

func (h *host) buildOptions(c *cli.Context) (build.Options, error) {
	opt := build.Options{
		Patch: c.Args().First(), Dir: c.String("dir"), Release: c.String("kernel"), SourceVersion: c.String("source-version"),
		On: c.StringSlice("on"), Cumulative: c.Bool("cumulative"), Output: c.String("output"), Name: c.String("name"),
		Jobs: c.Int("jobs"), AnyCompiler: c.Bool("any-compiler"), NoVerify: c.Bool("no-verify"), Fuzz: c.Int("fuzz"), Version: version,
	}
	if c.IsSet("max-units") {
		opt.MaxUnits = c.Int("max-units")
	}
	for _, text := range c.StringSlice("data") {
		r, err := build.ParseDataRule(text)
		if err != nil {
			return opt, &usageError{"--data: " + err.Error(), "build"}
		}
		opt.Data = append(opt.Data, r)
	}
	switch {
	case c.NArg() != 1:
		return opt, &usageError{"build needs one patch file", "build"}
	case c.IsSet("source") || c.IsSet("patch"):
		return opt, &usageError{"--source and --patch are for --method driver", "build"}
	case opt.Cumulative && len(opt.On) == 0:
		return opt, &usageError{"--cumulative is for an update on top of others: name them with --on", "build"}
	case opt.Fuzz < 0:
		return opt, &usageError{"--fuzz cannot be negative", "build"}
	case opt.Jobs < 0:
		return opt, &usageError{"--jobs cannot be negative", "build"}
	case c.Int("max-units") < 1:
		return opt, &usageError{"--max-units is at least 1", "build"}
	case opt.Name != "" && !build.ValidName(opt.Name):
		return opt, &usageError{"a name consists of small letters, digits and underscores and begins with a letter", "build"}
	}
	// In a kernel tree or a module's folder that is what is meant, unless
	// another kernel is asked for.
	if opt.Dir == "" && opt.Release == "" && kbuild.Recognise(".") != "" {
		opt.Dir = "."
	}
	var err error
	if opt.Release, err = releaseFor(opt.Release, opt.Dir); err != nil {
		return opt, err
	}
	// Before the build: a wrong password is not worth waiting for.
	opt.Keys, err = h.keys(c)
	return opt, err
}

// releaseFor is the kernel to build for: the running one if nothing says another.
func releaseFor(release, dir string) (string, error) {
	if release != "" || kbuild.Recognise(dir) == kbuild.KindTree {
		return release, nil
	}
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return "", err
	}
	return unix.ByteSliceToString(u.Release[:]), nil
}

func printBuild(w io.Writer, r *build.Result) {
	for _, u := range r.Manifest.Units {
		if u.Driver != nil {
			fmt.Fprintf(w, "%s: the whole driver of source %s, %s\n", u.Name, r.Manifest.Source.Version, count(len(r.Manifest.Source.Files), "file"))
			continue
		}
		var names []string
		for _, f := range u.Functions {
			name := f.Name
			if f.New {
				name += " (new)"
			}
			names = append(names, name)
		}
		fmt.Fprintf(w, "%s: %s; %d functions verified against the shipped binary\n", u.Name, strings.Join(names, ", "), u.Verified)
		for _, d := range u.Data {
			fmt.Fprintf(w, "%s: %s %s (%s)\n", u.Name, d.Action, d.Name, strings.Join(d.Changes, ", "))
		}
		for _, c := range u.Callbacks {
			fmt.Fprintf(w, "%s: %s callback %s\n", u.Name, c.Kind, c.Function)
		}
		printRan(w, u)
	}
	for _, p := range r.Manifest.Review {
		fmt.Fprintf(w, "review: %s\n", p)
	}
	for _, n := range r.Notes {
		fmt.Fprintf(w, "note: %s\n", n)
	}
	var sum time.Duration
	var parts []string
	for _, s := range r.Stages {
		sum += s.Took
		parts = append(parts, fmt.Sprintf("%s %.1f", s.Name, s.Took.Seconds()))
	}
	fmt.Fprintf(w, "%s in %.1f s (%s)\n", r.Path, sum.Seconds(), strings.Join(parts, ", "))
}

// stages shows what a build does: one moving line on a terminal, else a line
// for each stage that is new.
type stages struct {
	mu   sync.Mutex // compilers report from several goroutines
	p    *progress
	last string
}

func newStages(w io.Writer, terminal bool) *stages { return &stages{p: newProgress(w, terminal)} }

func (s *stages) show(stage string, done, total int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.p.terminal {
		if stage != s.last {
			s.p.show(stage, nil)
		}
		s.last = stage
		return
	}
	if total > 0 {
		stage = fmt.Sprintf("%s %d%%", stage, done*100/total)
	}
	s.p.show(stage, nil)
}

func (s *stages) clear() { s.p.clear() }
