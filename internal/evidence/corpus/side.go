// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// kpatchSizes are what create-diff-object wants to be told of the kernel's
// structures; the values are those of x86-64 up to 6.3 (see patchgen.DefaultSizes).
var kpatchSizes = []string{
	"ALT_STRUCT_SIZE=12", "BUG_STRUCT_SIZE=12", "EX_STRUCT_SIZE=12", "JUMP_STRUCT_SIZE=16", "ORC_STRUCT_SIZE=6",
	"PARA_STRUCT_SIZE=16", "PRINTK_INDEX_STRUCT_SIZE=48", "STATIC_CALL_STRUCT_SIZE=8",
}

// side is what one program makes of a pair.
type side struct {
	took  time.Duration
	cpu   time.Duration   // of all its threads, in the kernel too
	funcs []string        // changed and new, sorted
	new   map[string]bool // those it calls new
	says  []string        // its other lines
	// made is set if it wrote an object, nothing if it says that no code differs.
	made, nothing bool
}

// nothingExit is create-diff-object's exit status when nothing has changed.
const nothingExit = 3

func (r *racer) ours(ctx context.Context, dir string, n int) side {
	return timed(ctx, nil, r.lupatch, dir, strconv.Itoa(n), r.symvers, filepath.Join(r.dir, "ours.o"))
}

func (r *racer) theirs(ctx context.Context, unit, before, after, symtab string) side {
	return timed(ctx, kpatchSizes, r.kpatch, before, after, unit, symtab, r.symvers, "livepatch_x", filepath.Join(r.dir, "theirs.o"))
}

// writeSymtab writes the symbols of what runs as create-diff-object wants to be
// told of them: those of the old object, which is less than a kernel has.
func writeSymtab(ctx context.Context, object, to string) error {
	table, err := exec.CommandContext(ctx, "readelf", "--symbols", "--wide", object).Output()
	if err != nil {
		return err
	}
	return os.WriteFile(to, table, 0o644)
}

func timed(ctx context.Context, env []string, argv ...string) side {
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Env = append(os.Environ(), env...)
	begin := time.Now()
	out, err := cmd.CombinedOutput()
	took := time.Since(begin)
	s := parseSide(out, cmd.ProcessState.ExitCode(), err)
	s.took, s.cpu = took, cmd.ProcessState.UserTime()+cmd.ProcessState.SystemTime()
	return s
}

var changedLine = regexp.MustCompile(`(changed|new) function: (\S+)$`)

// parseSide reads what either program printed; err is that of a program that did
// not end well.
func parseSide(out []byte, exit int, err error) (s side) {
	s.new = map[string]bool{}
	for l := range strings.Lines(string(out)) {
		l = strings.TrimSpace(l)
		if m := changedLine.FindStringSubmatch(l); m != nil {
			s.funcs = append(s.funcs, m[2])
			s.new[m[2]] = m[1] == "new"
		} else if l != "" {
			s.says = append(s.says, l)
		}
	}
	slices.Sort(s.funcs)
	s.funcs = slices.Compact(s.funcs)
	s.made, s.nothing = exit == 0, exit == nothingExit
	if !s.made {
		s.funcs, s.new = nil, map[string]bool{}
		if len(s.says) == 0 && !s.nothing && err != nil {
			s.says = []string{err.Error()}
		}
	}
	return s
}
