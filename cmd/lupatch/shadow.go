// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

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
   lupatch shadow install               build it, put it in place, load it at every boot
   lupatch shadow install lupatch_shadow.ko   one that was built elsewhere
   lupatch shadow status                is it loaded, what does it hook?`,
		Subcommands: []*cli.Command{h.shadowBuildCommand(), h.shadowInstallCommand(), h.shadowStatusCommand()},
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
			built, err := h.buildShadow(c)
			if err != nil {
				return err
			}
			if c.Bool("json") {
				return printJSON(h.out, built)
			}
			fmt.Fprintln(h.out, built.Path)
			return nil
		},
	}
}

func (h *host) buildShadow(c *cli.Context) (*shadowBuilt, error) {
	p := newStages(h.err, h.errTerminal && !c.Bool("json"))
	defer p.clear()
	release := c.String("kernel")
	if release == "" && c.String("dir") == "" {
		var err error
		if release, err = h.kernel.Release(); err != nil {
			return nil, err
		}
	}
	tree, err := kbuild.Open(c.Context, kbuild.Options{Release: release, Dir: c.String("dir"), Progress: p.show})
	if err != nil {
		return nil, err
	}
	path, err := build.Shadow(c.Context, tree)
	return &shadowBuilt{path, tree.Release}, err
}

func (h *host) shadowInstallCommand() *cli.Command {
	return &cli.Command{
		Name:      "install",
		Usage:     "put it where the running kernel finds it, and have it loaded at boot",
		ArgsUsage: "[FILE]",
		Description: `Copies the module, FILE or one that is built first, to
/lib/modules/RELEASE/updates/lupatch, renews depmod's tables and the initramfs, and
names it in /etc/modules-load.d. It is not loaded now: ` + "`lupatch apply`" + ` of a driver
does that. Needs root.`,
		Flags: []cli.Flag{jsonFlag},
		Action: func(c *cli.Context) error {
			if c.NArg() > 1 {
				return &usageError{"shadow install takes one file", "shadow"}
			}
			file := c.Args().First()
			if file == "" {
				built, err := h.buildShadow(c)
				if err != nil {
					return err
				}
				file = built.Path
			}
			image, err := os.ReadFile(file)
			if err != nil {
				return fmt.Errorf("reading the module: %w", err)
			}
			release, err := h.kernel.Release()
			if err != nil {
				return err
			}
			path, err := h.update().InstallShadow(image)
			if err != nil {
				return err
			}
			if c.Bool("json") {
				return printJSON(h.out, shadowBuilt{path, release})
			}
			fmt.Fprintf(h.out, "%s\n", path)
			return nil
		},
	}
}

// shadowBuilt is what `shadow build --json` and `shadow install --json` answer.
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
