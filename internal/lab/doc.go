// SPDX-License-Identifier: Apache-2.0

// Package lab boots throwaway hosts: QEMU machines that run an unmodified
// distribution kernel with an initramfs made on the spot, in which an update can
// be tried without a risk for the machine it is tried on.
//
// The program that boots a lab host is also the first process inside it: main
// has to call RunIfGuest before anything else. The kernel's console is recorded
// and searched for faults; commands, files and network streams go through an
// agent on a second serial port.
//
// No privilege is needed. Nothing of the machine itself is altered apart from
// the cache of package deb.
package lab

import "github.com/lupatch/lupatch/internal/lab/guest"

// RunIfGuest never returns if this process is the first one of a lab host, or
// its agent; anywhere else it does nothing.
func RunIfGuest() { guest.RunIfGuest() }
