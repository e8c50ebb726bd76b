// SPDX-License-Identifier: Apache-2.0

package lab

import "time"

// SetEarlyStall is for tests that do not want to wait.
func SetEarlyStall(d time.Duration) (restore func()) {
	was := earlyStall
	earlyStall = d
	return func() { earlyStall = was }
}
