// SPDX-License-Identifier: Apache-2.0

package update

import "testing"

func TestLocked(t *testing.T) {
	const text = `1: POSIX  ADVISORY  WRITE 12 00:1a:345 0 EOF
2: FLOCK  ADVISORY  WRITE 13 00:1a:346 0 EOF
2: -> FLOCK  ADVISORY  WRITE 14 00:1a:347 0 EOF
3: LEASE  ACTIVE    READ  15 08:01:348 0 EOF
broken
`
	for inode, want := range map[uint64]bool{345: false, 346: true, 347: false, 348: false, 46: false} {
		if got := locked(text, inode); got != want {
			t.Errorf("%d: %v", inode, got)
		}
	}
}

// Of a real lock.
func TestAtWork(t *testing.T) {
	m := newMachine(t)
	if m.atWork() {
		t.Error("at work without a lock")
	}
	unlock, err := m.lock()
	if err != nil {
		t.Fatal(err)
	}
	if !m.atWork() {
		t.Error("not at work with the lock")
	}
	unlock()
	if m.atWork() {
		t.Error("at work although the lock is free")
	}
}
