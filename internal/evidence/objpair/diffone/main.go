// SPDX-License-Identifier: Apache-2.0

// Command diffone compares one pair of objects as a program of its own, which is
// how kpatch's create-diff-object is used: it reads both and writes a livepatch
// object. It holds nothing but lupatch's differ, to be timed.
package main

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/lupatch/lupatch/internal/evidence/objpair"
)

// nothingExit is what create-diff-object ends with too if nothing has changed.
const nothingExit = 3

func main() {
	// What one pair needs is less than collecting it would cost.
	debug.SetGCPercent(-1)
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 4 {
		return errors.New("usage: diffone FOLDER NUMBER SYMVERS OUT")
	}
	f, err := objpair.Read(args[0])
	if err != nil {
		return err
	}
	n, err := strconv.Atoi(args[1])
	if err != nil || n < 0 || n >= len(f.Pairs) {
		return fmt.Errorf("%s has no pair %s", args[0], args[1])
	}
	var in [3][]byte
	for i, path := range []string{filepath.Join(f.Dir, f.Pairs[n].Old), filepath.Join(f.Dir, f.Pairs[n].New), args[2]} {
		if in[i], err = mapped(path); err != nil {
			return fmt.Errorf("reading %s: %w", path, err)
		}
	}
	res, object, err := f.Pairs[n].Generate(in[0], in[1], in[2])
	if err != nil {
		return err
	}
	out := bufio.NewWriter(os.Stdout)
	for _, f := range res.Functions {
		what := "changed"
		if f.New {
			what = "new"
		}
		fmt.Fprintf(out, "%s function: %s\n", what, f.NewName)
	}
	for _, name := range res.AlreadyRan {
		fmt.Fprintf(out, "already ran: %s\n", name)
	}
	if err := out.Flush(); err != nil {
		return err
	}
	if res.Empty() {
		os.Exit(nothingExit)
	}
	return os.WriteFile(args[3], object, 0o644)
}

// mapped is a file's content, which is never let go: what is not looked at, such
// as most of the debugging information, is not read either.
func mapped(path string) ([]byte, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, err
	}
	if st.Size == 0 {
		return nil, nil // cannot be mapped
	}
	return unix.Mmap(fd, 0, int(st.Size), unix.PROT_READ, unix.MAP_PRIVATE)
}
