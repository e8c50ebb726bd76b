// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"errors"
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/lupatch/lupatch/internal/lab/wire"
)

// peer is the other end of a conn, to misbehave in ways that a real agent does
// not. The well-behaved side is tested with real ones.
type peer struct {
	net.Conn
	dec *wire.Decoder
	enc *wire.Encoder
}

func connWithPeer(t *testing.T) (*conn, *peer) {
	ours, theirs := net.Pipe()
	t.Cleanup(func() { ours.Close(); theirs.Close() })
	return newConn(ours), &peer{theirs, wire.NewDecoder(theirs), wire.NewEncoder(theirs)}
}

func soon(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// next reads one request; with ack it is acknowledged.
func (p *peer) next(t *testing.T, ack bool) *wire.Message {
	m, n, err := p.dec.Decode()
	if err != nil {
		t.Error(err)
		return &wire.Message{}
	}
	if ack {
		if err := p.enc.Encode(&wire.Message{Op: wire.OpAck, N: n}); err != nil {
			t.Error(err)
		}
	}
	return m
}

func TestConnStopsAtTheWindow(t *testing.T) {
	c, p := connWithPeer(t)
	read := make(chan int)
	go func() {
		total := 0
		for {
			_, n, err := p.dec.Decode()
			if err != nil {
				read <- total
				return
			}
			total += n
		}
	}()
	ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
	defer cancel()
	var err error
	for err == nil {
		err = c.send(ctx, &wire.Message{Op: wire.OpStdin, Data: make([]byte, wire.ChunkSize)})
	}
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	p.Close()
	if n := <-read; n > wire.Window || n < wire.Window/2 {
		t.Errorf("%d bytes were sent without an acknowledgement, the window is %d", n, wire.Window)
	}
}

func TestConnMatchesReplies(t *testing.T) {
	c, p := connWithPeer(t)
	go func() {
		a, b := p.next(t, true), p.next(t, true)
		// Out of order, with a late one for a request that nobody made.
		for _, m := range []*wire.Message{
			{ID: 999, Op: wire.OpDone},
			{ID: b.ID, Op: wire.OpDone, Error: "busy", Errno: int(unix.EBUSY)},
			{ID: a.ID, Op: wire.OpEvent}, {ID: a.ID, Op: wire.OpDone, Body: wire.Body(wire.Digest{Size: 7})},
		} {
			if err := p.enc.Encode(m); err != nil {
				t.Error(err)
			}
		}
	}()
	first, err := c.start(soon(t), wire.OpPing, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.request(soon(t), wire.OpRmmod, wire.Module{Name: "x"}, nil); !errors.Is(err, unix.EBUSY) {
		t.Errorf("error number: %v", err)
	}
	if m, err := first.reply(soon(t)); err != nil || m.Op != wire.OpEvent {
		t.Errorf("%v, %v", m, err)
	}
	var d wire.Digest
	if m, err := first.reply(soon(t)); err != nil || decode(m, &d) != nil || d.Size != 7 {
		t.Errorf("%v, %v", m, err)
	}
}

func TestConnEnds(t *testing.T) {
	for name, c := range map[string]struct {
		end  func(p *peer)
		want error
	}{
		"closed":  {func(p *peer) { p.Close() }, errClosed},
		"damaged": {func(p *peer) { _, _ = p.Write([]byte("{\"op\":\n")) }, wire.ErrDamaged},
	} {
		t.Run(name, func(t *testing.T) {
			conn, p := connWithPeer(t)
			go func() {
				m := p.next(t, true)
				_ = p.enc.Encode(&wire.Message{ID: m.ID, Op: wire.OpOutput, Data: []byte("last words")})
				c.end(p)
			}()
			k, err := conn.start(soon(t), wire.OpExec, wire.Exec{})
			if err != nil {
				t.Fatal(err)
			}
			<-conn.closed
			// What had come before the end is not lost.
			if m, err := k.reply(soon(t)); err != nil || string(m.Data) != "last words" {
				t.Errorf("%v, %v", m, err)
			}
			if _, err := k.reply(soon(t)); !errors.Is(err, c.want) {
				t.Errorf("got %v", err)
			}
			if _, err := conn.start(soon(t), wire.OpPing, nil); !errors.Is(err, c.want) {
				t.Errorf("a request after the end: %v", err)
			}
		})
	}
}
