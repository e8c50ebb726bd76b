// SPDX-License-Identifier: Apache-2.0

package lab_test

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/lupatch/lupatch/internal/lab"
	"github.com/lupatch/lupatch/internal/lab/labtest"
	"github.com/lupatch/lupatch/internal/sample"
)

// stopper stops QEMU as soon as the kernel says a word, the first so many times.
type stopper struct {
	t     *testing.T
	word  string
	times int

	mu   sync.Mutex
	seen string
}

func (s *stopper) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.seen += string(b); s.times > 0 && strings.Contains(s.seen, s.word) {
		s.times, s.seen = s.times-1, ""
		for _, stat := range children(s.t) {
			var pid int
			if _, err := fmt.Sscan(stat, &pid); err == nil {
				_ = syscall.Kill(pid, syscall.SIGSTOP)
			}
		}
	}
	return len(b), nil
}

// TestLabStall stops every QEMU of this process, so it runs beside no other test.
//
//	a kernel that stands still before its first process is booted
//
// once more, not for ever. TestConsoleStalled has what happens later.
func TestLabStall(t *testing.T) {
	sample.OnlyThorough(t, "TestConsoleStalled has what tells a stall")
	init := labtestInit(t)
	defer lab.SetEarlyStall(8 * time.Second)()
	conf := lab.Config{Init: init, Release: labtest.Release, CPUs: 1, BootTimeout: 60 * time.Second}
	boot := func(word string, times int) (*lab.Host, error) {
		conf.ConsoleLog = &stopper{t: t, word: word, times: times}
		return lab.Boot(labtest.Context(t), conf)
	}
	h, err := boot("Linux version ", 1)
	if err != nil {
		t.Fatalf("a single stall: %v", err)
	}
	if !h.Restarted {
		t.Error("it did not stall")
	}
	if err := h.Ping(labtest.Context(t)); err != nil {
		t.Error(err)
	}
	h.Close()
	h, err = boot("Linux version ", 2)
	var e *lab.Error
	if err == nil || !errors.As(err, &e) || !strings.Contains(err.Error(), "stood still") || !strings.Contains(err.Error(), "Linux version ") {
		t.Errorf("two stalls: %v, %v", h, err)
	}
}
