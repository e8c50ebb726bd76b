// SPDX-License-Identifier: Apache-2.0

//go:build crashpoints

package update

import (
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// With the tag crashpoints the environment says where to end:
//
//	LUPATCH_CRASH_AT=N     at the Nth point
//	LUPATCH_CRASH_BY=WHAT  kill: SIGKILL to this process; power: the host goes off
//	                       without writing back anything
//	LUPATCH_CRASH_LOG=FILE all points that were passed, one a line
//	LUPATCH_POINT_RUN=POINT:COMMAND  what a shell does at a point, and lupatch goes on
func init() {
	// The guardian is there for when the other process ends.
	if len(os.Args) > 1 && os.Args[1] == GuardVerb {
		return
	}
	at, err := strconv.Atoi(os.Getenv("LUPATCH_CRASH_AT"))
	if err != nil {
		at = -1
	}
	by, log := os.Getenv("LUPATCH_CRASH_BY"), os.Getenv("LUPATCH_CRASH_LOG")
	point, command, _ := strings.Cut(os.Getenv("LUPATCH_POINT_RUN"), ":")
	passed := 0
	atPoint = func(name string) {
		passed++
		if log != "" {
			f, err := os.OpenFile(log, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
			if err == nil {
				fmt.Fprintln(f, name)
				f.Close()
			}
		}
		if name == point {
			if out, err := exec.Command("/bin/sh", "-c", command).CombinedOutput(); err != nil {
				fmt.Fprintf(os.Stderr, "%s: %v: %s\n", name, err, out)
			}
		}
		if passed != at {
			return
		}
		if by == "power" {
			// Unlike poweroff(8) this system call syncs nothing (reboot(2)).
			err = unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
			fmt.Fprintln(os.Stderr, "powering off:", err)
		}
		unix.Kill(os.Getpid(), unix.SIGKILL)
		select {}
	}
}
