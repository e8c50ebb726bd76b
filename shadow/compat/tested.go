// SPDX-License-Identifier: Apache-2.0

package compat

//go:generate go run ./gen ../../docs/evidence/shadow-drivers.tsv tested_table.go

import (
	"slices"

	"github.com/lupatch/lupatch/internal/kmodule"
)

// TestedDriver is a line of the evidence on replacements of drivers.
type TestedDriver struct {
	Module string
	// State is "tested", or "pending" while the evidence is still to come.
	State string
	// Kernel and Date are of the measurement.
	Kernel, Date string
}

// Tested says whether the replacement of a driver has been tested.
func Tested(module string) bool {
	return slices.Contains(TestedDrivers(), kmodule.CanonicalName(module))
}

// TestedDrivers names them.
func TestedDrivers() (out []string) {
	for _, t := range testedTable {
		out = append(out, t.Module)
	}
	return out
}
