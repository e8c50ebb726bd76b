// SPDX-License-Identifier: Apache-2.0

// Package quiescetest has what tests and measurements of safe points need: the
// source of a module whose functions tasks are inside of, patches for it, and a
// program that keeps many tasks busy with it.
package quiescetest

import (
	"embed"
	"os"
	"path/filepath"
)

//go:embed busy *.patch
var files embed.FS

// Module is the module's name; KthreadName that of its thread, which is in the
// function KthreadLoop for ever.
const (
	Module      = "lubusy"
	KthreadName = "lubusy"
	KthreadLoop = "lubusy_loop"
)

// Write puts the module's source into dir/busy and the patches into dir:
// load.patch replaces lubusy_first and lubusy_second, loop.patch lubusy_loop and
// lubusy_value, value.patch the latter alone. The new lubusy_value sleeps until
// the module's parameter open is set.
func Write(dir string) error { return os.CopyFS(dir, files) }

// Patch is the path of a patch that Write has written.
func Patch(dir, name string) string { return filepath.Join(dir, name+".patch") }

// Source is the folder of the module that Write has written.
func Source(dir string) string { return filepath.Join(dir, "busy") }
