// SPDX-License-Identifier: Apache-2.0

// Package netns finds the network namespaces of a host and works in one of them.
package netns

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Namespace is a network namespace of the running kernel.
type Namespace struct {
	// Inode is its number, as `readlink /proc/PID/ns/net` shows it, and as the
	// kernel's ns_common has it.
	Inode uint32 `json:"inode"`
	// Path leads to it: a file below /run/netns, or that of a process which is in
	// it. It may be gone when it is used.
	Path string `json:"path"`
}

// Name is that given by ip-netns(8), "host" for the first process's namespace,
// "own" for this process's if it cannot be told whose it is, and the number
// otherwise.
func (n Namespace) Name() string {
	if strings.HasPrefix(n.Path, named) {
		return filepath.Base(n.Path)
	}
	switch n.Path {
	case first:
		return "host"
	case own:
		return "own"
	}
	return strconv.FormatUint(uint64(n.Inode), 10)
}

const (
	named = "/run/netns/"
	first = "/proc/1/ns/net"
	own   = "/proc/self/ns/net"
)

// ErrGone says that no process and no file leads to a namespace any more.
var ErrGone = errors.New("the network namespace is gone, or nothing leads to it")

// All lists the namespaces that processes or named files lead to, that of the
// first process first. One that only a socket or a bind mount elsewhere keeps is
// not found. Without root those of other users' processes are missing; this
// process's is always there.
func All() ([]Namespace, error) {
	var out []Namespace
	seen := map[uint32]bool{}
	add := func(path string) error {
		inode, err := inodeOf(path)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH) || errors.Is(err, fs.ErrPermission) {
			return nil // it ended meanwhile, or is another user's
		}
		if err != nil {
			return fmt.Errorf("looking for network namespaces: %w", err)
		}
		if !seen[inode] {
			seen[inode] = true
			out = append(out, Namespace{inode, path})
		}
		return nil
	}
	if err := add(first); err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(named)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("looking for network namespaces: %w", err)
	}
	for _, e := range entries {
		var st unix.Statfs_t
		path := named + e.Name()
		// What is left of a name whose namespace is gone is a plain file.
		if unix.Statfs(path, &st) == nil && st.Type == unix.NSFS_MAGIC {
			if err := add(path); err != nil {
				return nil, err
			}
		}
	}
	if err := add(own); err != nil {
		return nil, err
	}
	procs, err := os.ReadDir("/proc")
	if err != nil {
		return nil, fmt.Errorf("looking for network namespaces: %w", err)
	}
	for _, p := range procs {
		if _, err := strconv.Atoi(p.Name()); err != nil {
			continue
		}
		if err := add("/proc/" + p.Name() + "/ns/net"); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// Own is the namespace of this process.
func Own() (Namespace, error) {
	inode, err := inodeOf(own)
	if err != nil {
		return Namespace{}, fmt.Errorf("looking at the network namespace: %w", err)
	}
	return Namespace{inode, own}, nil
}

// Find looks for a namespace by its number; ErrGone is in the chain of the error
// if nothing leads to it.
func Find(inode uint32) (Namespace, error) {
	if n, err := Own(); err != nil || n.Inode == inode {
		return n, err
	}
	all, err := All()
	if err != nil {
		return Namespace{}, err
	}
	for _, n := range all {
		if n.Inode == inode {
			return n, nil
		}
	}
	return Namespace{}, fmt.Errorf("looking for network namespace %d: %w", inode, ErrGone)
}

func inodeOf(path string) (uint32, error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return 0, &fs.PathError{Op: "stat", Path: path, Err: err}
	}
	return uint32(st.Ino), nil
}

// Do calls f in the namespace: sockets that f opens are in it, and /sys shows its
// interfaces. Neither is true of goroutines that f begins. For another namespace
// than this process's it needs CAP_SYS_ADMIN; the mounts of this process stay as
// they are.
func Do(n Namespace, f func() error) error {
	here, err := Own()
	if err != nil {
		return err
	}
	if here.Inode == n.Inode {
		return f()
	}
	done := make(chan error, 1)
	go onThread(func() {
		if err := enter(n); err != nil {
			done <- fmt.Errorf("entering the network namespace %s: %w", n.Name(), err)
			return
		}
		done <- f()
	})
	return <-done
}

// onThread calls f on a thread that ends with it. The first thread never ends, and
// is what /proc/self shows of the process: while it is held here, a goroutine that
// is begun runs on another one.
func onThread(f func()) {
	runtime.LockOSThread()
	if unix.Gettid() != unix.Getpid() {
		f()
		return // still locked, so that the thread ends
	}
	defer runtime.UnlockOSThread()
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		f()
	}()
	<-done
}

// enter changes the calling thread only. A sysfs shows the interfaces of the
// namespace that mounted it, hence one more, in a mount namespace of its own.
func enter(n Namespace) error {
	fd, err := unix.Open(n.Path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("making a mount namespace: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, ""); err != nil {
		return fmt.Errorf("separating mounts: %w", err)
	}
	if err := unix.Setns(fd, unix.CLONE_NEWNET); err != nil {
		return err
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || uint32(st.Ino) != n.Inode {
		return ErrGone // a process with the same number
	}
	if err := unix.Mount("sysfs", "/sys", "sysfs", 0, ""); err != nil {
		return fmt.Errorf("mounting sysfs: %w", err)
	}
	return nil
}
