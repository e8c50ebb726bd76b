// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
	"syscall"

	"github.com/lupatch/lupatch/internal/lab/wire"
)

// errClosed says that the line to the agent is gone.
var errClosed = errors.New("the line to the lab host is closed")

// RemoteError is what the agent could not do. It wraps the guest's error
// number, so that errors.Is(err, unix.EBUSY) works.
type RemoteError struct {
	Text  string
	Errno syscall.Errno // 0 if there is none
}

func (e *RemoteError) Error() string { return "in the lab host: " + e.Text }

// Unwrap gives the error number.
func (e *RemoteError) Unwrap() error {
	if e.Errno == 0 {
		return nil
	}
	return e.Errno
}

// conn is the host's end of the protocol.
type conn struct {
	enc   *wire.Encoder
	hello chan *wire.Message

	mu      sync.Mutex
	next    uint64
	calls   map[uint64]*call
	err     error         // why the line ended
	closed  chan struct{} // closed then
	unacked int           // bytes under way, see wire.Window
	acked   chan struct{} // closed and replaced at every ack
}

func newConn(port io.ReadWriter) *conn {
	c := &conn{
		enc: wire.NewEncoder(port), hello: make(chan *wire.Message, 1), next: 1,
		calls: map[uint64]*call{}, closed: make(chan struct{}), acked: make(chan struct{}),
	}
	go c.read(port)
	return c
}

func (c *conn) read(port io.Reader) {
	dec := wire.NewDecoder(port)
	dec.Lenient = true
	for {
		m, _, err := dec.Decode()
		if err != nil {
			c.fail(err)
			return
		}
		switch m.Op {
		case wire.OpHello:
			select {
			case c.hello <- m:
			default:
			}
		case wire.OpAck:
			c.mu.Lock()
			c.unacked = max(0, c.unacked-m.N)
			close(c.acked)
			c.acked = make(chan struct{})
			c.mu.Unlock()
		default:
			c.deliver(m)
		}
	}
}

func (c *conn) fail(err error) {
	if err == io.EOF {
		err = errClosed
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err == nil {
		c.err = err
		close(c.closed)
	}
}

func (c *conn) failure() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

func (c *conn) deliver(m *wire.Message) {
	c.mu.Lock()
	call := c.calls[m.ID]
	if m.Op == wire.OpDone {
		delete(c.calls, m.ID)
	}
	c.mu.Unlock()
	if call != nil {
		call.add(m)
	}
}

// send waits until the guest has read enough of what was sent before.
func (c *conn) send(ctx context.Context, m *wire.Message) error {
	line, err := wire.Marshal(m)
	if err != nil {
		return err
	}
	for {
		c.mu.Lock()
		err, acked := c.err, c.acked
		room := c.unacked == 0 || c.unacked+len(line) <= wire.Window
		if room && err == nil {
			c.unacked += len(line)
		}
		c.mu.Unlock()
		if err != nil {
			return err
		}
		if room {
			return c.enc.WriteLine(line)
		}
		select {
		case <-acked:
		case <-c.closed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// call is one request and its replies, in order. The replies wait here without
// a limit so that a slow reader does not stop the others.
type call struct {
	conn *conn
	id   uint64

	mu      sync.Mutex
	replies []*wire.Message
	more    chan struct{} // has room for one token
}

func (c *conn) start(ctx context.Context, op string, body any) (*call, error) {
	c.mu.Lock()
	k := &call{conn: c, id: c.next, more: make(chan struct{}, 1)}
	c.next++
	c.calls[k.id] = k
	c.mu.Unlock()
	m := &wire.Message{ID: k.id, Op: op}
	if body != nil {
		m.Body = wire.Body(body)
	}
	if err := c.send(ctx, m); err != nil {
		k.forget()
		return nil, err
	}
	return k, nil
}

func (k *call) forget() {
	k.conn.mu.Lock()
	delete(k.conn.calls, k.id)
	k.conn.mu.Unlock()
}

func (k *call) add(m *wire.Message) {
	k.mu.Lock()
	k.replies = append(k.replies, m)
	k.mu.Unlock()
	select {
	case k.more <- struct{}{}:
	default:
	}
}

func (k *call) take() *wire.Message {
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.replies) == 0 {
		return nil
	}
	m := k.replies[0]
	k.replies = k.replies[1:]
	return m
}

// reply waits for the next one. OpDone with an error comes as *RemoteError.
func (k *call) reply(ctx context.Context) (*wire.Message, error) {
	for {
		if m := k.take(); m != nil {
			if m.Op == wire.OpDone && m.Error != "" {
				return m, &RemoteError{Text: m.Error, Errno: syscall.Errno(m.Errno)}
			}
			return m, nil
		}
		select {
		case <-k.more:
		case <-k.conn.closed:
			// What came before the end still counts.
			if m := k.take(); m != nil {
				k.mu.Lock()
				k.replies = append([]*wire.Message{m}, k.replies...)
				k.mu.Unlock()
				continue
			}
			return nil, k.conn.failure()
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// request sends a request and waits for OpDone, whose body goes to result if
// that is not nil.
func (c *conn) request(ctx context.Context, op string, body, result any) error {
	k, err := c.start(ctx, op, body)
	if err != nil {
		return err
	}
	defer k.forget()
	for {
		m, err := k.reply(ctx)
		if err != nil {
			return err
		}
		if m.Op == wire.OpDone {
			return decode(m, result)
		}
	}
}

func decode(m *wire.Message, result any) error {
	if result == nil {
		return nil
	}
	if err := json.Unmarshal(m.Body, result); err != nil {
		return fmt.Errorf("%w: reading a reply: %v", wire.ErrDamaged, err)
	}
	return nil
}
