// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"io"
	"testing"

	"github.com/lupatch/lupatch/internal/lab/wire"
)

// The start of a program is reported before its output, however quick it is.
func TestStartBeforeOutput(t *testing.T) {
	r, w := io.Pipe()
	defer w.Close()
	a := &agent{enc: wire.NewEncoder(w), procs: map[uint64]*process{}}
	dec := wire.NewDecoder(r)
	for id := uint64(1); id <= 200; id++ {
		go a.exec(id, wire.Exec{Argv: []string{"/bin/sh", "-c", "echo out; echo err >&2"}, TTY: id%4 == 0})
		var ops []string
		for len(ops) == 0 || ops[len(ops)-1] != wire.OpDone {
			m, _, err := dec.Decode()
			if err != nil {
				t.Fatal(err)
			}
			if m.ID != id {
				t.Fatalf("a message for %d while %d runs", m.ID, id)
			}
			ops = append(ops, m.Op)
		}
		if len(ops) < 3 || ops[0] != wire.OpEvent {
			t.Fatalf("program %d: replies %q", id, ops)
		}
	}
}
