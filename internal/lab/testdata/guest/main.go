// SPDX-License-Identifier: Apache-2.0

// The smallest program that a lab host can be started with.
package main

import (
	"fmt"
	"os"

	"github.com/lupatch/lupatch/internal/lab"
)

func main() {
	lab.RunIfGuest()
	fmt.Fprintln(os.Stderr, "this program runs inside lab hosts only")
	os.Exit(1)
}
