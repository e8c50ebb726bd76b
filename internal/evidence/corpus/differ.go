// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/google/renameio/v2"

	"github.com/lupatch/lupatch/internal/kbuild"
)

// differRounds is how often each program is timed for each pair, in turns; the
// shortest time counts, as it is the one least disturbed.
const differRounds = 3

// kpatchSizes are what create-diff-object wants to be told of the kernel's
// structures; the values are those of x86-64 up to 6.3 (see patchgen.DefaultSizes).
var kpatchSizes = []string{
	"ALT_STRUCT_SIZE=12", "BUG_STRUCT_SIZE=12", "EX_STRUCT_SIZE=12", "JUMP_STRUCT_SIZE=16", "ORC_STRUCT_SIZE=6",
	"PARA_STRUCT_SIZE=16", "PRINTK_INDEX_STRUCT_SIZE=48", "STATIC_CALL_STRUCT_SIZE=8",
}

// pair is one file before and after a fix.
type pair struct {
	fix           *fix
	source        string
	before, after string
	unit          string
}

// side is what one program makes of a pair.
type side struct {
	took  time.Duration
	funcs []string // changed and new
	says  string   // why there are none
}

// differ compares what lupatch's differ and kpatch's make of the same objects.
func differ(ctx context.Context, o options, fixes []*fix) error {
	tree, err := kbuild.Open(ctx, kbuild.Options{Release: o.release})
	if err != nil {
		return err
	}
	p, err := newPlain(ctx, tree, 0)
	if err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "lupatch-differ-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	symvers := filepath.Join(tree.Obj, "Module.symvers")
	var out bytes.Buffer
	fmt.Fprintf(&out, "# SPDX-License-Identifier: Apache-2.0\n# kernel %s, written %s by make evidence-differ\n", o.release, time.Now().UTC().Format("2006-01-02"))
	fmt.Fprintln(&out, "fix\tsource\tms\tkpatch ms\tverdict\tonly lupatch\tonly kpatch\tlupatch says\tkpatch says")
	n := 0
	for _, f := range fixes {
		pairs, err := p.pairs(ctx, tree, f)
		if err != nil {
			return fmt.Errorf("%s: %w", f.name, err)
		}
		for _, x := range pairs {
			ours, theirs, err := race(ctx, o, x, self, symvers, tree.Src, dir)
			if err != nil {
				return fmt.Errorf("%s: %w", f.name, err)
			}
			fmt.Fprintln(&out, strings.Join(compareSides(x, ours, theirs), "\t"))
			if err := renameio.WriteFile(o.table, out.Bytes(), 0o644); err != nil {
				return err
			}
			n++
			fmt.Fprintf(os.Stderr, "%d %s: %.0f ms, kpatch %.0f ms\n", n, f.name, ms(ours.took), ms(theirs.took))
		}
	}
	return nil
}

// pairs are the objects of a fix made with section flags, as both programs want
// them; none if the fix does not compile or touches no configured C file.
func (p *plain) pairs(ctx context.Context, tree *kbuild.Tree, f *fix) (out []pair, err error) {
	q := *p
	q.debug = true
	before, after, err := q.objects(ctx, f, f.sources(), sectionFlags...)
	var nc *notCompiled
	if errors.As(err, &nc) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	for _, s := range f.sources() {
		tu, err := tree.TU(ctx, s)
		if err != nil {
			return nil, err
		}
		out = append(out, pair{f, s, before[s], after[s], tu.Unit})
	}
	return out, nil
}

func race(ctx context.Context, o options, x pair, self, symvers, src, dir string) (ours, theirs side, err error) {
	symtab := filepath.Join(dir, "symtab")
	table, err := exec.CommandContext(ctx, "readelf", "--symbols", "--wide", x.before).Output()
	if err != nil {
		return ours, theirs, fmt.Errorf("reading the symbols of %s: %w", x.source, err)
	}
	if err := os.WriteFile(symtab, table, 0o644); err != nil {
		return ours, theirs, err
	}
	for i := range differRounds {
		runs := []func(){
			func() {
				ours = faster(ours, once(ctx, nil, self, "-one", "-kernel", o.release, x.unit, x.before, x.after, symvers, x.fix.path, src, x.source, filepath.Join(dir, "ours.o")))
			},
			func() {
				theirs = faster(theirs, once(ctx, kpatchSizes, o.kpatch, x.before, x.after, x.unit, symtab, symvers, "livepatch_x", filepath.Join(dir, "theirs.o")))
			},
		}
		if i%2 == 1 {
			slices.Reverse(runs)
		}
		for _, r := range runs {
			r()
		}
	}
	return ours, theirs, ctx.Err()
}

func faster(a, b side) side {
	if a.took == 0 || b.took < a.took {
		return b
	}
	return a
}

var changedLine = regexp.MustCompile(`(?m)(?:changed|new) function: (\S+)$`)

func once(ctx context.Context, env []string, argv ...string) (s side) {
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Env = append(os.Environ(), env...)
	begin := time.Now()
	out, err := cmd.CombinedOutput()
	s.took = time.Since(begin)
	for _, m := range changedLine.FindAllStringSubmatch(string(out), -1) {
		s.funcs = append(s.funcs, m[1])
	}
	slices.Sort(s.funcs)
	s.funcs = slices.Compact(s.funcs)
	if err != nil {
		s.funcs, s.says = nil, clean(last(out))
		if s.says == "" {
			s.says = err.Error()
		}
	}
	return s
}

func compareSides(x pair, ours, theirs side) []string {
	var a, b []string
	for _, f := range ours.funcs {
		if !slices.Contains(theirs.funcs, f) {
			a = append(a, f)
		}
	}
	for _, f := range theirs.funcs {
		if !slices.Contains(ours.funcs, f) {
			b = append(b, f)
		}
	}
	verdict := "differ"
	switch {
	case ours.says != "" && theirs.says != "":
		verdict = "neither"
	case ours.says != "":
		verdict = "only kpatch"
	case theirs.says != "":
		verdict = "only lupatch"
	case len(a)+len(b) == 0:
		verdict = "same"
	}
	return []string{x.fix.name, x.source, fmt.Sprintf("%.1f", ms(ours.took)), fmt.Sprintf("%.1f", ms(theirs.took)), verdict, strings.Join(a, " "), strings.Join(b, " "), ours.says, theirs.says}
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
