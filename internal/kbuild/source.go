// SPDX-License-Identifier: Apache-2.0

package kbuild

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"

	"github.com/lupatch/lupatch/internal/deb"
)

// notNeeded are parts of the source that no x86 build reads, as patterns of tar
// relative to its root ("*" matches "/" too): a third of the files. Kconfig
// files stay, because they are read as a whole, those of other architectures
// included (crypto/Kconfig sources them).
var notNeeded = []string{
	"Documentation/*/*", "tools/testing", "tools/perf",
	"arch/[!x]*/*.[chS]", "arch/[!x]*/*.dts*", "arch/[!x]*/*defconfig*", "arch/[!x]*/Makefile*", "arch/xtensa",
}

// unpackSource unpacks the source package's archive into t.Src, without keeping
// the archive itself: package → archive → decompressor → files, in one pipe.
func (t *Tree) unpackSource(ctx context.Context, debs *deb.Cache, pkg string) error {
	return once(ctx, t.Src, func(tmp string) error {
		file, err := debs.Fetch(ctx, pkg, t.Version)
		if err != nil {
			return err
		}
		args := []string{"-x", "-C", tmp, "--strip-components=1", "--no-same-owner", "--wildcards", "--anchored"}
		for _, p := range notNeeded {
			args = append(args, "--exclude="+path.Join(pkg, p))
		}
		st, err := os.Stat(file)
		if err != nil {
			return err
		}
		const stage = "unpacking source"
		t.progress(stage, 0, st.Size())
		count := func(n int64) { t.progress(stage, n, st.Size()) }
		err = pipe(ctx, count,
			exec.CommandContext(ctx, "dpkg-deb", "--fsys-tarfile", file),
			exec.CommandContext(ctx, "tar", "-x", "-O", "./usr/src/"+pkg+".tar.xz"),
			exec.CommandContext(ctx, "xz", "-dc", "-T0"),
			exec.CommandContext(ctx, "tar", args...),
		)
		if err != nil {
			return fmt.Errorf("unpacking %s: %w", pkg, err)
		}
		for _, must := range []string{"Makefile", "Kbuild", "scripts/Makefile.build", "arch/x86/Makefile"} {
			if !exists(filepath.Join(tmp, must)) {
				return fmt.Errorf("unpacking %s: it holds no %s", pkg, must)
			}
		}
		t.progress(stage, st.Size(), st.Size())
		return nil
	})
}

// pipe runs commands, each reading what the one before writes; count is told
// how many bytes have gone into the third.
func pipe(ctx context.Context, count func(int64), cmds ...*exec.Cmd) error {
	logs := make([]bytes.Buffer, len(cmds))
	var started []*exec.Cmd
	var counter io.ReadCloser
	var feed io.WriteCloser
	// Our copies of the pipes' ends, closed once the commands have theirs: who
	// writes to a command that has died must see that.
	var ours []io.Closer
	for i, c := range cmds {
		c.Env = cleanEnv()
		c.Stderr = &logs[i]
		if i == 0 {
			continue
		}
		out, err := cmds[i-1].StdoutPipe()
		if err != nil {
			return err
		}
		if i == 2 {
			if feed, err = c.StdinPipe(); err != nil {
				return err
			}
			counter = out
			continue
		}
		c.Stdin = out
		ours = append(ours, out)
	}
	var errs []error
	for _, c := range cmds {
		if err := c.Start(); err != nil {
			errs = append(errs, fmt.Errorf("starting %s: %w", c.Args[0], err))
			for _, s := range started {
				s.Process.Kill()
			}
			break
		}
		started = append(started, c)
	}
	for _, c := range ours {
		c.Close()
	}
	if len(errs) == 0 {
		if _, err := io.Copy(&counting{w: feed, f: count}, counter); err != nil {
			errs = append(errs, err)
		}
	}
	feed.Close()
	counter.Close()
	for i, c := range started {
		if err := c.Wait(); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w: %s", c.Args[0], err, strings.TrimSpace(logs[i].String())))
		}
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return errors.Join(errs...)
}

type counting struct {
	w    io.Writer
	f    func(int64)
	n    int64
	last int64
}

func (c *counting) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	const step = 1 << 20
	if c.n-c.last >= step {
		c.last = c.n
		c.f(c.n)
	}
	return n, err
}
