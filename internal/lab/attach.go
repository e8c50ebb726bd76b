// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"sync"
	"syscall"

	"golang.org/x/term"
)

// escapeKey ends an attached shell: Ctrl-], as in telnet.
const escapeKey = 0x1d

// Attach runs a command of the guest on this process's terminal until it ends
// or Ctrl-] is typed, which is no error and gives status 0. If in is no terminal
// its content is the input, to its end.
func (h *Host) Attach(ctx context.Context, argv []string, in, out *os.File) (*Result, error) {
	left := make(chan struct{})
	cmd := Cmd{Argv: argv, TTY: true, Timeout: -1, Stdout: out, Stdin: in, Env: []string{"ENV=/etc/profile"}}
	if name := os.Getenv("TERM"); name != "" {
		cmd.Env = append(cmd.Env, "TERM="+name)
	}
	if fd := int(in.Fd()); term.IsTerminal(fd) {
		state, err := term.MakeRaw(fd)
		if err != nil {
			return nil, fmt.Errorf("setting up the terminal: %w", err)
		}
		defer func() { _ = term.Restore(fd, state) }()
		cmd.Stdin = &escapeReader{r: in, left: left}
	}
	cmd.Rows, cmd.Cols = sizeOf(out)
	p, err := h.Start(ctx, cmd)
	if err != nil {
		return nil, err
	}
	resize := make(chan os.Signal, 1)
	signal.Notify(resize, syscall.SIGWINCH)
	defer signal.Stop(resize)
	for {
		select {
		case <-p.Done():
			return p.Wait(ctx)
		case <-left:
			return &Result{}, nil
		case <-ctx.Done():
			return p.Wait(ctx)
		case <-resize:
			if rows, cols := sizeOf(out); rows > 0 {
				_ = p.Resize(ctx, rows, cols)
			}
		}
	}
}

func sizeOf(f *os.File) (rows, cols uint16) {
	w, h, err := term.GetSize(int(f.Fd()))
	if err != nil {
		return 0, 0
	}
	return uint16(h), uint16(w)
}

// escapeReader passes everything on until the escape key.
type escapeReader struct {
	r    io.Reader
	left chan struct{}
	once sync.Once
}

func (e *escapeReader) Read(b []byte) (int, error) {
	n, err := e.r.Read(b)
	if i := bytes.IndexByte(b[:n], escapeKey); i >= 0 {
		e.once.Do(func() { close(e.left) })
		return i, io.EOF
	}
	return n, err
}
