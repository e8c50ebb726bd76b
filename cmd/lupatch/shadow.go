// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/urfave/cli/v2"

	"github.com/lupatch/lupatch/internal/build"
	"github.com/lupatch/lupatch/internal/kbuild"
	"github.com/lupatch/lupatch/internal/refuse"
	"github.com/lupatch/lupatch/shadow"
)

func (h *host) shadowCommand() *cli.Command {
	return &cli.Command{
		Name:  "shadow",
		Usage: "the kernel module that stands in for a driver while it is replaced",
		Description: `Whole drivers are replaced with the help of a kernel module, lupatch_shadow. It is
built against the headers of a kernel, once for each, and should be loaded at boot,
before the drivers: it then sees to it that each network device has room for a later
version of its driver. Loaded later it works, too, with drivers that grow little.

Examples:
   lupatch shadow build                 for the running kernel; prints the file
   lupatch shadow build --kernel 6.1.0-47-amd64
   insmod $(lupatch shadow build)
   lupatch shadow status                is it loaded, what does it hook?`,
		Subcommands: []*cli.Command{h.shadowBuildCommand(), h.shadowStatusCommand()},
	}
}

func (h *host) shadowBuildCommand() *cli.Command {
	return &cli.Command{
		Name:  "build",
		Usage: "build it for a kernel, and print where it is",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "kernel", Aliases: []string{"k"}, Usage: "the kernel's `RELEASE` (default: the running one)"},
			&cli.StringFlag{Name: "dir", Aliases: []string{"C"}, Usage: "a `FOLDER` with a configured kernel tree, instead of packages"},
			jsonFlag,
		},
		Action: func(c *cli.Context) error {
			p := newStages(h.err, h.errTerminal && !c.Bool("json"))
			release := c.String("kernel")
			if release == "" && c.String("dir") == "" {
				var err error
				if release, err = h.kernel.Release(); err != nil {
					return err
				}
			}
			tree, err := kbuild.Open(c.Context, kbuild.Options{Release: release, Dir: c.String("dir"), Progress: p.show})
			if err != nil {
				return err
			}
			path, err := build.Shadow(c.Context, tree)
			p.clear()
			if err != nil {
				return err
			}
			if c.Bool("json") {
				return printJSON(h.out, shadowBuilt{path, tree.Release})
			}
			fmt.Fprintln(h.out, path)
			return nil
		},
	}
}

// shadowBuilt is what `shadow build --json` answers.
type shadowBuilt struct {
	// Path is the module's file, Kernel the release it is for.
	Path   string `json:"path"`
	Kernel string `json:"kernel"`
}

func (h *host) shadowStatusCommand() *cli.Command {
	return &cli.Command{
		Name:  "status",
		Usage: "is it loaded, and what does it hook?",
		Flags: []cli.Flag{jsonFlag},
		Action: func(c *cli.Context) error {
			control, err := shadow.Open()
			if errors.Is(err, fs.ErrNotExist) {
				return refuse.New(refuse.ShadowMissing, shadow.Module, "it is not loaded")
			}
			if err != nil {
				return err
			}
			defer control.Close()
			info, err := control.Info()
			if err != nil {
				return err
			}
			if c.Bool("json") {
				return printJSON(h.out, info)
			}
			fmt.Fprintf(h.out, "%s: loaded; %d bytes more for each private area, counters of %d devices carried on\n", shadow.Module, info.Slack, info.Marked)
			if info.Session != 0 {
				fmt.Fprintln(h.out, "  a driver is being replaced")
			}
			for _, hook := range info.Hooks {
				state := "not in use"
				if hook.Enabled {
					state = "in use"
				}
				fmt.Fprintf(h.out, "  %-28s %-10s (%s)\n", hook.Name, state, hookWhen[hook.When])
			}
			return nil
		},
	}
}

var hookWhen = map[string]string{
	"loaded": "always", "marked": "while counters are carried on", "session": "during a replacement",
}
