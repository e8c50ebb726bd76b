// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/sirupsen/logrus"
	"github.com/urfave/cli/v2"

	"github.com/lupatch/lupatch/internal/build"
	"github.com/lupatch/lupatch/internal/sign"
)

func (h *host) signCommand() *cli.Command {
	return &cli.Command{
		Name:      "sign",
		Usage:     "sign update files, or make keys for it",
		ArgsUsage: "FILE...",
		Description: `Signs finished updates with secret keys; what a key is for shows in its content.
A private key in PEM (RSA; ECDSA if the kernel has it) with its certificate makes
the kernel's own module signature, which is appended to the file. A minisign secret
key makes FILE.minisig beside it, which covers all but that. An update may have
both, in any order. --generate NAME makes a pair of each kind:

   NAME.key   minisign secret key: keep it secret
   NAME.pub   minisign public key: for /etc/lupatch/trusted.d of hosts
   NAME.pem   RSA private key with certificate: keep it secret
   NAME.der   the certificate: for trusted.d, and for the kernel (mokutil --import)

Secret keys are encrypted if a password is given. Needs no privilege.

Examples:
   lupatch sign --generate ops                     make keys
   lupatch sign --key ops.key --key ops.pem fix.ko make both signatures
   lupatch sign --key /var/lib/dkms/mok.key --cert /var/lib/dkms/mok.pub fix.ko
   lupatch verify fix.ko                           would this host take it?`,
		Flags: []cli.Flag{
			keyFlag, certFlag, passwordFlag,
			&cli.StringFlag{Name: "generate", Usage: "make new keys in the files `NAME`.key, .pub, .pem and .der"},
			jsonFlag,
		},
		Action: func(c *cli.Context) error {
			switch {
			case c.IsSet("generate") && (c.Args().Present() || len(c.StringSlice("key")) > 0 || c.String("generate") == ""):
				return &usageError{"--generate takes a name, and neither keys nor files", "sign"}
			case c.IsSet("generate"):
				return h.generate(c)
			case !c.Args().Present():
				return &usageError{"sign needs at least one update file", "sign"}
			case len(c.StringSlice("key")) == 0:
				return &usageError{"sign needs --key", "sign"}
			}
			keys, err := h.keys(c)
			if err != nil {
				return err
			}
			signed := []string{}
			for _, file := range c.Args().Slice() {
				written, err := build.SignFile(file, h.kernel.Root, keys)
				if err != nil {
					return err
				}
				signed = append(signed, written...)
			}
			if c.Bool("json") {
				return printJSON(h.out, map[string]any{"signed": signed})
			}
			for _, path := range signed {
				fmt.Fprintln(h.out, path)
			}
			return nil
		},
	}
}

func (h *host) generate(c *cli.Context) error {
	base := c.String("generate")
	password := ""
	_, inEnv := os.LookupEnv(passwordVariable)
	if inEnv || c.IsSet("password-file") || h.inTerminal && h.errTerminal {
		var err error
		if password, err = h.password(c, "Password for the secret keys of %s (empty for none): ")(base); err != nil {
			return err
		}
	}
	g, err := sign.Generate(base, filepath.Base(base)+" (lupatch updates)", password)
	if err != nil {
		return err
	}
	if c.Bool("json") {
		return printJSON(h.out, map[string]any{"generated": g})
	}
	if password == "" {
		logrus.Warn("the secret keys are not encrypted: whoever reads the files can sign updates")
	}
	fmt.Fprintf(h.out, "%s and %s: secret, for lupatch build --key\n%s and %s: public, for %s\n", g.Secret, g.Private, g.Public, g.Certificate, sign.TrustedDir)
	return nil
}
