// SPDX-License-Identifier: Apache-2.0

package quiescetest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// Load keeps n threads busy until ctx ends: each enters a function of the module
// at random and stays for a random time, up to longest, or does something that
// has nothing to do with it. ready is called when all of them have begun.
func Load(ctx context.Context, n int, seed uint64, longest time.Duration, ready func()) error {
	files := []string{"first", "second", "other"}
	var fds []int
	for _, f := range files {
		fd, err := unix.Open("/proc/"+Module+"/"+f, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("opening /proc/%s/%s: %w", Module, f, err)
		}
		defer unix.Close(fd)
		fds = append(fds, fd)
	}
	begun, done := make(chan struct{}, n), make(chan error, n)
	for i := range n {
		go func() {
			// A thread of its own, so that it keeps its number.
			runtime.LockOSThread()
			begun <- struct{}{}
			done <- work(ctx, rand.New(rand.NewPCG(seed, uint64(i))), fds, longest)
		}()
	}
	for range n {
		<-begun
	}
	ready()
	for range n {
		if err := <-done; err != nil {
			return err
		}
	}
	return nil
}

// work is what one thread does. Half of its time it is in none of the module's
// functions.
func work(ctx context.Context, r *rand.Rand, fds []int, longest time.Duration) error {
	ms := int(longest / time.Millisecond)
	buf := make([]byte, ms+1)
	for ctx.Err() == nil {
		stay := 1 + r.IntN(ms)
		switch k := r.IntN(2 * len(fds)); {
		case k < len(fds):
			// The number of bytes asked for is the time it takes. pread does not
			// take turns at the file's position.
			if _, err := unix.Pread(fds[k], buf[:stay], 0); err != nil && err != unix.EINTR {
				return fmt.Errorf("reading a file of /proc/%s: %w", Module, err)
			}
		case k == len(fds):
			ordinary()
			fallthrough
		default:
			ts := unix.NsecToTimespec(int64(stay) * int64(time.Millisecond))
			_ = unix.Nanosleep(&ts, nil)
		}
	}
	return nil
}

// ordinary system calls, some of which sleep for a moment.
func ordinary() {
	var st unix.Stat_t
	for range 20 {
		_ = unix.Stat("/proc/self/status", &st)
		unix.Getpid()
	}
	if fd, err := unix.Open("/proc/meminfo", unix.O_RDONLY, 0); err == nil {
		var b [512]byte
		_, _ = unix.Read(fd, b[:])
		unix.Close(fd)
	}
}
