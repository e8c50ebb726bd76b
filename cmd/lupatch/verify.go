// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"

	"github.com/sirupsen/logrus"
	"github.com/urfave/cli/v2"

	"github.com/lupatch/lupatch/internal/sign"
	"github.com/lupatch/lupatch/update"
)

func (h *host) verifyCommand() *cli.Command {
	return &cli.Command{
		Name:      "verify",
		Usage:     "check the signatures of update files against this host's policy",
		ArgsUsage: "FILE...",
		Description: `Says which signatures an update has, by which key, and whether this host accepts
them; if not, that is a refusal (exit code 3), as it would be by apply. What a host
demands is in /etc/lupatch/policy, a line

   require = none | minisign | kernel | any | both

(none without that file), whom it trusts in /etc/lupatch/trusted.d: minisign's public
keys in *.pub, certificates in *.pem, *.crt, *.cer and *.der. A certificate counts by
itself, whoever issued it; dates do not count, as for the kernel. The kernel has
keys of its own (root can see whether a trusted one is among them): whether it takes
a module it tells only when it is loaded. Needs no privilege.

Examples:
   lupatch verify fix.ko
   lupatch verify --json fix.ko | jq '.updates[].signatures'`,
		Flags: []cli.Flag{jsonFlag},
		Action: func(c *cli.Context) error {
			if !c.Args().Present() {
				return &usageError{"verify needs at least one update file", "verify"}
			}
			var list []*update.Verdict
			for _, file := range c.Args().Slice() {
				v, err := h.update().Verify(file)
				if err != nil {
					return err
				}
				if v.Refused != nil && c.Bool("json") {
					// One object: that of the refusal has all that matters.
					return v.Refused
				}
				if !c.Bool("json") {
					h.printVerdict(file, v)
				}
				if v.Refused != nil {
					return v.Refused
				}
				list = append(list, v)
			}
			if c.Bool("json") {
				return printJSON(h.out, map[string]any{"updates": list})
			}
			return nil
		},
	}
}

// signatures finds those of a file and holds them against the host's keys, even
// if the host would not take them.
func (h *host) signatures(path string, file []byte) ([]sign.Signature, error) {
	policy, err := sign.ReadPolicy(h.kernel.Root)
	if err != nil {
		logrus.Warn(err)
		policy = &sign.Policy{Trust: new(sign.Trust)}
	}
	minisig, err := sign.ReadMinisig(path)
	if err != nil {
		return nil, err
	}
	return append([]sign.Signature{}, sign.Examine(file, minisig, policy.Trust)...), nil
}

func (h *host) printVerdict(file string, v *update.Verdict) {
	for _, s := range v.Signatures {
		fmt.Fprintf(h.out, "%s: %s\n", file, s)
		if s.Comment != "" {
			fmt.Fprintf(h.out, "%s: the signer says: %s\n", file, s.Comment)
		}
	}
	if v.KernelHasKey != nil {
		fmt.Fprintf(h.out, "%s: the kernel %s its key\n", file, map[bool]string{true: "has", false: "does not have"}[*v.KernelHasKey])
	}
	if v.Kernel != "" {
		fmt.Fprintf(h.out, "%s: the kernel has to accept the kernel signature, too, as %s\n", file, v.Kernel)
	}
	for _, w := range v.Warnings {
		logrus.Warn(w)
	}
	if v.Refused == nil {
		fmt.Fprintf(h.out, "%s: accepted (this host requires: %s)\n", file, v.Require)
	}
}
