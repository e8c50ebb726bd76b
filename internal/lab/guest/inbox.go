// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"io"
	"sync"
)

// inbox holds standard input that a program has not taken yet, so that a slow
// program does not stop the reading of other requests.
type inbox struct {
	mu     sync.Mutex
	more   *sync.Cond
	chunks [][]byte
	ended  bool
}

func newInbox() *inbox {
	b := &inbox{}
	b.more = sync.NewCond(&b.mu)
	return b
}

func (b *inbox) add(data []byte, end bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ended {
		return
	}
	if len(data) > 0 {
		b.chunks = append(b.chunks, data)
	}
	b.ended = b.ended || end
	b.more.Signal()
}

func (b *inbox) close() { b.add(nil, true) }

// next waits for a chunk; nil is the end.
func (b *inbox) next() []byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	for len(b.chunks) == 0 && !b.ended {
		b.more.Wait()
	}
	if len(b.chunks) == 0 {
		return nil
	}
	c := b.chunks[0]
	b.chunks = b.chunks[1:]
	return c
}

// copyTo passes everything on and closes w. A program that takes no more input
// is no error.
func (b *inbox) copyTo(w io.WriteCloser) {
	defer w.Close()
	for c := b.next(); c != nil; c = b.next() {
		if _, err := w.Write(c); err != nil {
			b.close()
			return
		}
	}
}
