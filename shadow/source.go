// SPDX-License-Identifier: Apache-2.0

package shadow

import "embed"

// Source has the files of the kernel module below SourceDir. Building them is for
// package build.
//
//go:embed kmod/*.c kmod/*.h kmod/Kbuild
var Source embed.FS

// SourceDir is where they are in Source.
const SourceDir = "kmod"
