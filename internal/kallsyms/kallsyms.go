// SPDX-License-Identifier: Apache-2.0

// Package kallsyms reads the symbols of a kernel: out of an image on disk
// (vmlinuz or vmlinux) or out of /proc/kallsyms of the running one.
//
// Distributions ship no usable System.map, and the package with debugging
// information is a gigabyte. The image itself carries what is needed: the
// tables from which the kernel answers /proc/kallsyms. They have no header and
// their layout differs from release to release, so they are found by their
// content, and every table is checked against the others before it is believed.
package kallsyms

import "errors"

// ErrNoTables says that an image holds no kallsyms tables that pass every
// check, for example because it was built without CONFIG_KALLSYMS.
var ErrNoTables = errors.New("no valid kallsyms tables")

// ErrRestricted says that /proc/kallsyms showed only zero addresses, which is
// what a reader without CAP_SYSLOG gets, or everyone with kptr_restrict=2.
var ErrRestricted = errors.New("addresses are hidden: read it as root with kernel.kptr_restrict at 0 or 1")

// Symbol is one entry of kallsyms.
type Symbol struct {
	// Addr is the address: as linked in an image, as loaded (KASLR) in the
	// running kernel. Per-CPU symbols have their small absolute offset.
	Addr uint64
	// Type is the letter of nm(1); lower case is local.
	Type byte
	Name string
	// Module is empty for vmlinux.
	Module string
}

// IsText says whether the symbol is code.
func (s Symbol) IsText() bool {
	switch s.Type {
	case 't', 'T', 'w', 'W':
		return true
	}
	return false
}
