// SPDX-License-Identifier: Apache-2.0

package update

import "github.com/lupatch/lupatch/internal/journal"

// atPoint is called before and after each record of the journal. A program built
// with the tag crashpoints ends there as a crash would end it; see
// internal/evidence/crash.
var atPoint = func(string) {}

// appendRecord is how every record gets into the journal.
func appendRecord(j *journal.Journal, r journal.Record) error {
	name := r.Kind + " " + r.Step + " " + string(r.State)
	atPoint("before " + name)
	err := j.Append(r)
	atPoint("after " + name)
	return err
}
