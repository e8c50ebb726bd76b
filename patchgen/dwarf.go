// SPDX-License-Identifier: Apache-2.0

package patchgen

import (
	"debug/dwarf"
	"errors"
)

// entryReader reads DWARF entries. The library's reader never ends where the
// last entry is cut off, so that entries are counted: each has a byte at least.
type entryReader struct {
	*dwarf.Reader
	left int
}

// readEntries begins at the first entry of an object of size bytes.
func readEntries(d *dwarf.Data, size int) *entryReader {
	return &entryReader{d.Reader(), size}
}

// Next gives the next entry, or nil at the end.
func (r *entryReader) Next() (*dwarf.Entry, error) {
	if r.left--; r.left < 0 {
		return nil, errors.New("the debugging information has no end")
	}
	return r.Reader.Next()
}
