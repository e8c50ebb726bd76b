// SPDX-License-Identifier: Apache-2.0

// Package wire is the protocol between a lab host's agent and whoever booted
// it: one JSON object a line (NDJSON), in both directions, over a serial port.
package wire

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"sync"
)

// Version changes when either side would no longer understand the other.
const Version = 2

// Limits of the protocol.
const (
	// ChunkSize is how many bytes of a file or stream go into one message, so
	// that a message stays well below Window.
	ChunkSize = 8 << 10
	// MaxLine bounds a line: a chunk in base64 and everything around it.
	MaxLine = 64 << 10
	// Window is how many bytes may be under way to the guest without having
	// been read. The tty layer drops input once 64 kB wait for a reader
	// (drivers/tty/tty_buffer.c, TTYB_DEFAULT_MEM_LIMIT), silently.
	Window = 32 << 10
)

// Operations that the host asks for. Replies carry the ID of the request.
const (
	OpExec     = "exec"
	OpStdin    = "stdin"
	OpKill     = "kill"
	OpResize   = "resize"
	OpPut      = "put"
	OpPutData  = "put-data"
	OpGet      = "get"
	OpInsmod   = "insmod"
	OpModprobe = "modprobe"
	OpRmmod    = "rmmod"
	OpNetwork  = "network"
	OpStream   = "stream"
	OpPoll     = "poll"
	OpHalt     = "halt"
	OpPing     = "ping"
	OpPowerOff = "poweroff"
)

// Kinds of replies.
const (
	OpHello  = "hello"  // the agent is ready; sent once, without a request
	OpAck    = "ack"    // N bytes have been read from the line
	OpOutput = "output" // Data of standard output
	OpErrors = "errors" // Data of standard error
	OpData   = "data"   // Data of a file
	OpEvent  = "event"  // Body tells of progress
	OpDone   = "done"   // the request is over: Body or Error
)

// Message is one line.
type Message struct {
	// ID ties replies to requests; 0 in OpHello and OpAck.
	ID uint64 `json:"id,omitempty"`
	Op string `json:"op"`
	// Data are raw bytes, guarded by Sum (CRC-32, IEEE): a serial line has no
	// checksum of its own.
	Data []byte `json:"data,omitempty"`
	Sum  uint32 `json:"sum,omitempty"`
	// End says that no Data follow.
	End bool `json:"end,omitempty"`
	// Body is a structure that depends on Op.
	Body json.RawMessage `json:"body,omitempty"`
	// Error and Errno say why a request failed.
	Error string `json:"error,omitempty"`
	Errno int    `json:"errno,omitempty"`
	// N counts bytes in OpAck.
	N int `json:"n,omitempty"`
}

// ErrDamaged says that what came in is not what was sent. The line cannot be
// trusted from there on.
var ErrDamaged = errors.New("the serial line lost or changed data")

// Encoder writes messages. It may be used by several goroutines.
type Encoder struct {
	mu sync.Mutex
	w  io.Writer
}

// NewEncoder writes to w, one Write a message.
func NewEncoder(w io.Writer) *Encoder { return &Encoder{w: w} }

// Marshal gives the line of a message, newline included.
func Marshal(m *Message) ([]byte, error) {
	if len(m.Data) > 0 {
		m.Sum = crc32.ChecksumIEEE(m.Data)
	}
	line, err := json.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("encoding a message: %w", err)
	}
	if len(line) >= MaxLine {
		return nil, fmt.Errorf("encoding a message: %d bytes are more than a line may have", len(line))
	}
	return append(line, '\n'), nil
}

// Encode sends a message.
func (e *Encoder) Encode(m *Message) error {
	line, err := Marshal(m)
	if err != nil {
		return err
	}
	return e.WriteLine(line)
}

// WriteLine sends a line made by Marshal.
func (e *Encoder) WriteLine(line []byte) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if _, err := e.w.Write(line); err != nil {
		return fmt.Errorf("writing to the serial line: %w", err)
	}
	return nil
}

// Decoder reads messages; for one goroutine.
type Decoder struct {
	r *bufio.Reader
	// Lenient skips lines that are no messages, until the first that is one:
	// firmware may have written to the port.
	Lenient bool
}

// NewDecoder reads from r.
func NewDecoder(r io.Reader) *Decoder { return &Decoder{r: bufio.NewReaderSize(r, MaxLine)} }

// Decode gives the next message and the number of bytes that its line took. A
// damaged line gives an error that wraps ErrDamaged; the end of the input is
// io.EOF between lines and ErrDamaged within one.
func (d *Decoder) Decode() (*Message, int, error) {
	for {
		line, err := d.r.ReadSlice('\n')
		switch {
		case err == io.EOF && len(line) == 0:
			return nil, 0, io.EOF
		case err == io.EOF:
			return nil, len(line), fmt.Errorf("%w: it ended within a message", ErrDamaged)
		case err == bufio.ErrBufferFull && d.Lenient:
			continue
		case err == bufio.ErrBufferFull:
			return nil, len(line), fmt.Errorf("%w: a line is too long", ErrDamaged)
		case err != nil:
			return nil, 0, fmt.Errorf("reading from the serial line: %w", err)
		}
		m, err := parse(line)
		if err == nil {
			d.Lenient = false
			return m, len(line), nil
		}
		if !d.Lenient {
			return nil, len(line), err
		}
	}
}

func parse(line []byte) (*Message, error) {
	var m Message
	if err := json.Unmarshal(line, &m); err != nil {
		return nil, fmt.Errorf("%w: %.60q: %v", ErrDamaged, line, err)
	}
	if m.Op == "" {
		return nil, fmt.Errorf("%w: %.60q: no operation", ErrDamaged, line)
	}
	if len(m.Data) > 0 && crc32.ChecksumIEEE(m.Data) != m.Sum {
		return nil, fmt.Errorf("%w: wrong checksum in a %s message", ErrDamaged, m.Op)
	}
	return &m, nil
}
