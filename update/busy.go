// SPDX-License-Identifier: Apache-2.0

package update

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// atWork says whether some lupatch holds the host's lock. The lock itself is not
// touched: to try it would make a change fail that begins at that moment. It is looked
// up in /proc/locks, which shows the locks of processes of the same pid namespace.
func (h *Host) atWork() bool {
	st, err := os.Stat(filepath.Join(h.Root, LockPath))
	if err != nil {
		return false
	}
	sys, ok := st.Sys().(*syscall.Stat_t)
	if !ok {
		return false
	}
	b, err := os.ReadFile("/proc/locks")
	return err == nil && locked(string(b), sys.Ino)
}

// locked looks for an flock(2) on an inode in lines "1: FLOCK  ADVISORY  WRITE 12
// 00:1a:345 0 EOF" (proc(5)). Those that wait have "->" behind the number. The device
// is not compared: some file systems show another one to stat(2).
func locked(text string, inode uint64) bool {
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) < 6 || f[1] != "FLOCK" {
			continue
		}
		place := strings.Split(f[5], ":")
		if n, err := strconv.ParseUint(place[len(place)-1], 10, 64); err == nil && n == inode {
			return true
		}
	}
	return false
}
