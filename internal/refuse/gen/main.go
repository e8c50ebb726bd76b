// SPDX-License-Identifier: Apache-2.0

// Command gen writes the documentation of the refusals to the file it is given.
package main

import (
	"fmt"
	"os"

	"github.com/lupatch/lupatch/internal/refuse"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: gen FILE")
		os.Exit(2)
	}
	if err := os.WriteFile(os.Args[1], []byte(refuse.Markdown()), 0o644); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
