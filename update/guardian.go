// SPDX-License-Identifier: Apache-2.0

package update

import (
	"bufio"
	"context"
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime/debug"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/lupatch/lupatch/internal/journal"
	"github.com/lupatch/lupatch/internal/refuse"
	"github.com/lupatch/lupatch/shadow"
)

// GuardVerb is the hidden command by which a lupatch becomes a guardian: it reads a
// charge from standard input and says "ready".
const GuardVerb = "guard"

// charge is all that the guardian of a session needs: nothing of it is read from a
// file when it is needed.
type charge struct {
	Module  string
	Session uint64
	Old     shadow.Version
	// Change and Kind are those of the journal.
	Change string
	Kind   Kind
}

// guardian is the dead man's switch: a process of its own session, locked in memory,
// that the kernel wakes when the one that replaces a driver dies or falls silent.
type guardian struct{ cmd *exec.Cmd }

// guardianPatience is long: nothing has been stopped yet.
const guardianPatience = time.Minute

func startGuardian(ctx context.Context, x *exchange) (*guardian, error) {
	const doing = "starting the guardian"
	cmd := exec.Command("/proc/self/exe", GuardVerb)
	// Neither a signal to our group nor a terminal that goes away reaches it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", doing, err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", doing, err)
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("%s: %w", doing, err)
	}
	g := &guardian{cmd}
	ready := make(chan error, 1)
	go func() {
		err := gob.NewEncoder(in).Encode(charge{
			Module: x.module(), Session: x.session.Number, Old: *x.fromVersion(), Change: x.change.ID, Kind: x.change.Kind,
		})
		in.Close()
		if err == nil {
			var line string
			if line, err = bufio.NewReader(out).ReadString('\n'); err == nil && line != "ready\n" {
				err = fmt.Errorf("it says %q", line)
			}
		}
		ready <- err
	}()
	select {
	case err = <-ready:
	case <-time.After(guardianPatience):
		err = errors.New("it does not answer")
	case <-ctx.Done():
		err = ctx.Err()
	}
	if err != nil {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		return nil, fmt.Errorf("%s: %w", doing, err)
	}
	return g, nil
}

// dismiss waits for its end, which comes with that of the session.
func (g *guardian) dismiss() error {
	if err := g.cmd.Wait(); err != nil {
		return fmt.Errorf("ending the guardian: %w", err)
	}
	return nil
}

// Guard is the guardian. It ends when the session that it is charged with has ended:
// by itself, or because it has brought the old driver back.
func Guard(ctx context.Context, h *Host, in io.Reader, out io.Writer) error {
	var c charge
	if err := gob.NewDecoder(in).Decode(&c); err != nil {
		return fmt.Errorf("reading the charge: %w", err)
	}
	if err := lockMemory(); err != nil {
		return err
	}
	control, err := shadow.Open()
	if err != nil {
		return err
	}
	defer control.Close()
	if err := control.Guard(c.Session); err != nil {
		return err
	}
	if _, err := io.WriteString(out, "ready\n"); err != nil {
		return err
	}
	if err := control.WaitOrphaned(); errors.Is(err, shadow.ErrOver) {
		return nil
	} else if err != nil {
		return err
	}
	s, err := control.TakeOver(c.Module, c.Session)
	if err != nil {
		return err
	}
	defer s.Close()
	failed := s.Restore(ctx, h.Kernel, &c.Old)
	return errors.Join(failed, h.guarded(ctx, &c, failed))
}

// guarded writes down what the guardian has done. The one before held the lock, and its
// end is why we are here; one that only stands still ends when it finds that it has
// been taken over.
func (h *Host) guarded(ctx context.Context, c *charge, failed error) error {
	unlock, err := h.lockInTime(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	j, err := journal.Open(h.journalPath())
	if err != nil {
		return err
	}
	defer j.Close()
	list, err := h.history()
	if err != nil {
		return err
	}
	for _, p := range list {
		if p.id != c.Change || !p.open() {
			continue
		}
		detail := "by the guardian, as lupatch had died: the driver of before is at work"
		if failed != nil {
			detail = "by the guardian, as lupatch had died; bringing the driver of before back failed: " + failed.Error()
		}
		return errors.Join(h.installRunning(c.Module),
			appendRecord(j, journal.Record{Change: c.Change, Kind: string(c.Kind), Updates: p.names, State: journal.Aborted, Detail: detail}))
	}
	return nil
}

// lockPatience is how long a process that has died may still hold the host's lock: its
// end is waited for, as its threads may be in the kernel.
const lockPatience = 30 * time.Second

func (h *Host) lockInTime(ctx context.Context) (func(), error) {
	ctx, cancel := context.WithTimeout(ctx, lockPatience)
	defer cancel()
	t := time.NewTicker(50 * time.Millisecond)
	defer t.Stop()
	for {
		unlock, err := h.lock()
		if e, ok := refuse.As(err); !ok || e.ID != refuse.KernelBusy {
			return unlock, err
		}
		select {
		case <-t.C:
		case <-ctx.Done():
			return nil, err
		}
	}
}

// lockMemory keeps this process in memory and alive: it must work while the device
// that its files are on may be the one that is replaced, and while memory is short.
func lockMemory() error {
	if err := unix.Mlockall(unix.MCL_CURRENT | unix.MCL_FUTURE); err != nil {
		return fmt.Errorf("locking the program in memory: %w", err)
	}
	const never = "-1000"
	if err := os.WriteFile("/proc/self/oom_score_adj", []byte(never), 0); err != nil {
		return fmt.Errorf("protecting the program from the OOM killer: %w", err)
	}
	// What an earlier change has left would be locked, too.
	debug.FreeOSMemory()
	return nil
}
