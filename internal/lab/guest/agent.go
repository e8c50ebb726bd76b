// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/lupatch/lupatch/internal/lab/wire"
)

// agent serves requests. Requests are read by one goroutine that never blocks
// for long; each that takes time has a goroutine of its own.
type agent struct {
	enc     *wire.Encoder
	port    *os.File
	release string
	net     *network

	mu    sync.Mutex
	procs map[uint64]*process
	puts  map[uint64]*upload
	halts map[uint64]chan struct{}
}

func runAgent() {
	if err := serve(); err != nil {
		say("%v", err)
		os.Exit(1)
	}
	os.Exit(0)
}

func serve() error {
	conf, err := readConfig()
	if err != nil {
		return err
	}
	release, err := kernelRelease()
	if err != nil {
		return err
	}
	port, err := openAgentPort(conf, release)
	if err != nil {
		return err
	}
	a := &agent{
		enc: wire.NewEncoder(port), port: port, release: release,
		procs: map[uint64]*process{}, puts: map[uint64]*upload{}, halts: map[uint64]chan struct{}{},
	}
	_ = unix.Sethostname([]byte(conf.Hostname))
	if a.net, err = watchNetwork(conf); err != nil {
		return err
	}
	hello := wire.Hello{Version: wire.Version, Release: a.release, CPUs: runtime.NumCPU()}
	for _, name := range conf.Modules {
		if err := modprobe(a.release, name, ""); err != nil {
			hello.Failed = append(hello.Failed, fmt.Sprintf("%s: %v", name, err))
			continue
		}
		hello.Loaded = append(hello.Loaded, name)
	}
	hello.Uptime = uptime()
	// The newline ends whatever the port may have carried before.
	if _, err := port.Write([]byte("\n")); err != nil {
		return fmt.Errorf("writing to the agent's port: %w", err)
	}
	if err := a.enc.Encode(&wire.Message{Op: wire.OpHello, Body: wire.Body(hello)}); err != nil {
		return err
	}
	return a.loop()
}

func (a *agent) loop() error {
	dec := wire.NewDecoder(a.port)
	for {
		m, n, err := dec.Decode()
		if err != nil {
			return fmt.Errorf("reading a request: %w", err)
		}
		if err := a.enc.Encode(&wire.Message{Op: wire.OpAck, N: n}); err != nil {
			return err
		}
		a.dispatch(m)
	}
}

func (a *agent) dispatch(m *wire.Message) {
	switch m.Op {
	case wire.OpPing:
		a.done(m.ID, nil, nil)
	case wire.OpExec:
		handle(a, m, a.exec)
	case wire.OpStdin:
		a.stdin(m)
	case wire.OpKill:
		handle(a, m, a.kill)
	case wire.OpResize:
		handle(a, m, a.resize)
	case wire.OpPut:
		handle(a, m, a.put)
	case wire.OpPutData:
		a.putData(m)
	case wire.OpGet:
		handle(a, m, a.get)
	case wire.OpInsmod:
		handle(a, m, a.insmod)
	case wire.OpModprobe:
		handle(a, m, a.modprobe)
	case wire.OpRmmod:
		handle(a, m, a.rmmod)
	case wire.OpNetwork:
		handle(a, m, a.network)
	case wire.OpStream:
		handle(a, m, a.stream)
	case wire.OpPoll:
		handle(a, m, a.poll)
	case wire.OpHalt:
		a.halt(m.ID)
	case wire.OpPowerOff:
		a.done(m.ID, nil, nil)
		drain(a.port)
		powerOff()
	default:
		a.done(m.ID, nil, fmt.Errorf("unknown operation %q", m.Op))
	}
}

// handle decodes the body of a request for the function that serves it.
func handle[T any](a *agent, m *wire.Message, serve func(id uint64, body T)) {
	var body T
	if err := json.Unmarshal(m.Body, &body); err != nil {
		a.done(m.ID, nil, fmt.Errorf("reading a %s request: %w", m.Op, err))
		return
	}
	serve(m.ID, body)
}

// done ends a request. A port that cannot be written to ends the reading loop
// too, so that errors need no care here.
func (a *agent) done(id uint64, body any, err error) {
	m := &wire.Message{ID: id, Op: wire.OpDone}
	if body != nil {
		m.Body = wire.Body(body)
	}
	if err != nil {
		m.Error = err.Error()
		var errno syscall.Errno
		if errors.As(err, &errno) {
			m.Errno = int(errno)
		}
	}
	_ = a.enc.Encode(m)
}

// data sends bytes in pieces that fit into messages.
func (a *agent) data(id uint64, op string, b []byte) error {
	for len(b) > 0 {
		n := min(len(b), wire.ChunkSize)
		if err := a.enc.Encode(&wire.Message{ID: id, Op: op, Data: b[:n]}); err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}

// halting registers a long request that OpHalt can end.
func (a *agent) halting(id uint64) (halted <-chan struct{}, forget func()) {
	ch := make(chan struct{})
	a.mu.Lock()
	a.halts[id] = ch
	a.mu.Unlock()
	return ch, func() {
		a.mu.Lock()
		delete(a.halts, id)
		a.mu.Unlock()
	}
}

func (a *agent) halt(id uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if ch := a.halts[id]; ch != nil {
		close(ch)
		delete(a.halts, id)
	}
}

func kernelRelease() (string, error) {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return "", fmt.Errorf("asking for the kernel release: %w", err)
	}
	return unix.ByteSliceToString(u.Release[:]), nil
}

func uptime() float64 {
	text, err := os.ReadFile("/proc/uptime")
	if err != nil {
		return 0
	}
	first, _, _ := strings.Cut(string(text), " ")
	v, _ := strconv.ParseFloat(first, 64)
	return v
}
