// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"bytes"
	"io"
	"strings"
	"testing"
)

// TestRunIfGuestElsewhere: the mark alone does not turn a process into a lab
// host's; this test ends if it does.
func TestRunIfGuestElsewhere(t *testing.T) {
	for _, role := range []string{"", roleInit, roleAgent, "x"} {
		t.Setenv(EnvMark, role)
		RunIfGuest()
	}
}

func TestFindDep(t *testing.T) {
	text := "kernel/a/snd-pcm.ko: kernel/a/snd-timer.ko kernel/a/snd.ko\nkernel/a/snd.ko:\nkernel/a/xsnd.ko:\n"
	if file, deps, ok := findDep(text, "snd_pcm"); !ok || file != "kernel/a/snd-pcm.ko" || strings.Join(deps, " ") != "kernel/a/snd-timer.ko kernel/a/snd.ko" {
		t.Errorf("%s, %q, %t", file, deps, ok)
	}
	if file, deps, ok := findDep(text, "snd"); !ok || file != "kernel/a/snd.ko" || len(deps) != 0 {
		t.Errorf("%s, %q, %t", file, deps, ok)
	}
	for _, name := range []string{"", "pcm", "snd_pc", "kernel/a/snd"} {
		if _, _, ok := findDep(text, name); ok {
			t.Errorf("%q was found", name)
		}
	}
}

func TestIsBuiltin(t *testing.T) {
	text := "kernel/drivers/virtio/virtio_pci.ko\nkernel/a/snd-pcm.ko\n"
	for name, want := range map[string]bool{"virtio_pci": true, "snd_pcm": true, "snd": false, "pci": false, "": false} {
		if isBuiltin(text, name) != want {
			t.Errorf("%q: want %v", name, want)
		}
	}
}

type closer struct {
	bytes.Buffer
	closed chan struct{}
}

func (c *closer) Close() error { close(c.closed); return nil }

func TestInbox(t *testing.T) {
	b := newInbox()
	b.add([]byte("one "), false)
	w := &closer{closed: make(chan struct{})}
	go b.copyTo(w)
	b.add([]byte("two"), false)
	b.add([]byte(" three"), true)
	b.add([]byte("after the end"), false)
	<-w.closed
	if w.String() != "one two three" {
		t.Errorf("got %q", w.String())
	}
}

// TestInboxReaderGone: a program that takes no input ends the copying, and later
// input is dropped instead of kept.
func TestInboxReaderGone(t *testing.T) {
	b := newInbox()
	r, w := io.Pipe()
	r.Close()
	b.add([]byte("x"), false)
	b.copyTo(w)
	b.add([]byte("y"), false)
	if b.next() != nil {
		t.Error("input is kept for nobody")
	}
}
