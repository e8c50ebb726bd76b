// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/urfave/cli/v2"

	"github.com/lupatch/lupatch/internal/instances"
	"github.com/lupatch/lupatch/internal/refuse"
	"github.com/lupatch/lupatch/shadow/survey"
)

// instance is a device as instances prints it.
type instance struct {
	survey.Instance
	// The version of its driver's module: 0 as it was found.
	Version int `json:"version"`
}

func (h *host) instancesCommand() *cli.Command {
	return &cli.Command{
		Name:      "instances",
		Usage:     "show devices, their drivers, and whether those could be replaced",
		ArgsUsage: "[DRIVER]",
		Description: `Without DRIVER it shows every device with a network interface, a disk or a sound
card; with one every device of that driver or module. The last column says whether
the driver could be replaced by a whole new one under what uses the device, and what
stands in the way as far as that can be seen from outside. Since when a device is
bound, and which requests were captured, is known of the time since
` + "`lupatch watch --start`" + `. Needs root to see other network namespaces and what was captured.

The exit code is 3 if nothing is bound to DRIVER.

Examples:
   lupatch instances
   lupatch instances e1000
   lupatch instances --json | jq -r '.instances[] | select(.replaceable) | .name'`,
		Flags: []cli.Flag{jsonFlag},
		Action: func(c *cli.Context) error {
			if c.NArg() > 1 {
				return &usageError{"instances takes one driver", "instances"}
			}
			list, err := h.instances(c, c.Args().First())
			if err != nil {
				return refusedCapture(err)
			}
			if c.Bool("json") {
				return printJSON(h.out, map[string]any{"instances": list})
			}
			printInstances(h.out, list)
			return nil
		},
	}
}

func (h *host) instances(c *cli.Context, name string) ([]instance, error) {
	found, err := survey.Survey(h.kernel.Root, name, h.capture.read)
	if err != nil {
		return nil, err
	}
	if len(found) == 0 && name != "" {
		return nil, refuse.New(refuse.NoDevice, name, "no device is bound to it")
	}
	versions := map[string]int{}
	// Without livepatches every unit is as shipped.
	if s, err := h.update().Status(c.Context); err == nil {
		for _, u := range s.Units {
			versions[u.Unit] = u.Version
		}
	} else if _, ok := refuse.As(err); !ok {
		return nil, err
	}
	drivers, err := h.update().DriversInForce()
	if err != nil {
		return nil, err
	}
	for _, d := range drivers {
		v := d[len(d)-1]
		versions[v.Module] = v.Number
	}
	out := make([]instance, 0, len(found))
	for _, f := range found {
		out = append(out, instance{f, versions[f.Module]})
	}
	return out, nil
}

func printInstances(w io.Writer, list []instance) {
	t := newTable(w, "driver", "version", "device", "class", "has", "state", "bound", "captured", "replaceable")
	for _, i := range list {
		has, state := i.Objects, []string{}
		for _, n := range i.Interfaces {
			name := n.Name
			if n.Namespace != "host" && n.Namespace != "own" {
				name += " in " + n.Namespace
			}
			has, state = append(has, name), append(state, stateOf(n))
		}
		can := "yes"
		if !i.Replaceable {
			can = "no: " + strings.Join(i.Hindrances, "; ")
		}
		version := "built in"
		if i.Module != "" {
			version = fmt.Sprint(i.Version)
		}
		requests := "-"
		if n := len(i.Captured); n > 0 {
			requests = count(n, "request")
		}
		t.AppendRow(table.Row{i.Driver, version, i.Bus + " " + i.Name, orDash(i.Class), orDash(strings.Join(has, ", ")),
			orDash(strings.Join(state, ", ")), ago(i.Since), requests, can})
	}
	t.Render()
}

func stateOf(n instances.Interface) string {
	switch {
	case !n.Up:
		return "down"
	case n.Carrier:
		return "up"
	}
	return "up, no carrier"
}
