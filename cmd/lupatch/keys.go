// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/sirupsen/logrus"
	"github.com/urfave/cli/v2"
	"golang.org/x/term"

	"github.com/lupatch/lupatch/internal/sign"
)

// passwordVariable holds the password of key files where there is no terminal.
const passwordVariable = "LUPATCH_KEY_PASSWORD"

var (
	keyFlag      = &cli.StringSliceFlag{Name: "key", Usage: "sign the update with the secret key in `FILE`: PEM for the kernel's signature, minisign's for NAME.ko.minisig; may be given once for each"}
	certFlag     = &cli.StringFlag{Name: "cert", Usage: "`FILE` with the certificate of the PEM key (PEM or DER; default: the one in the key's own file)"}
	passwordFlag = &cli.StringFlag{Name: "password-file", Usage: "`FILE` whose first line is the password of the keys (default: $" + passwordVariable + ", else it is asked for on the terminal)"}
)

// keys reads the keys of a command line.
func (h *host) keys(c *cli.Context) (sign.Keys, error) {
	keys, err := sign.ReadKeys(c.StringSlice("key"), c.String("cert"), h.password(c, "Password for %s: "))
	for _, s := range keys.Exposed() {
		logrus.Warn(s)
	}
	return keys, err
}

// password finds the password of a key file.
func (h *host) password(c *cli.Context, prompt string) sign.Password {
	return func(path string) (string, error) {
		if file := c.String("password-file"); file != "" {
			text, err := os.ReadFile(file)
			line, _, _ := strings.Cut(string(text), "\n")
			return strings.TrimSuffix(line, "\r"), err
		}
		if p, ok := os.LookupEnv(passwordVariable); ok {
			return p, nil
		}
		if !h.inTerminal || !h.errTerminal {
			return "", errors.New("it is encrypted: give --password-file or set " + passwordVariable)
		}
		fmt.Fprintf(h.err, prompt, path)
		p, err := term.ReadPassword(int(os.Stdin.Fd()))
		fmt.Fprintln(h.err)
		return string(p), err
	}
}
