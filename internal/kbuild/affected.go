// SPDX-License-Identifier: Apache-2.0

package kbuild

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/lupatch/lupatch/internal/refuse"
)

// Affected is what a change to files that others include comes to.
type Affected struct {
	// Readers counts the files, as the configuration builds them, that may
	// read any of the changed ones; Compared those whose preprocessed text was
	// made to see; Differ those where it differs.
	Readers, Compared, Differ int
	// Units are those whose code may differ, by source.
	Units []*TU
}

// MaxUnits is how many units a changed header may lead to if nobody says
// otherwise. Each is compiled two or three times, at about 0.7 s each.
const MaxUnits = 250

// Affected finds the units whose code may differ because of changed files that
// they include (paths relative to the tree's root), of all that the configuration
// builds. skip lists sources that are compiled in any case and not looked at. It
// gives nothing if nobody reads the files.
//
// The inclusions of all files give the units that may read them; then the
// preprocessed text of both versions is compared. Line numbers do not count, nor
// do functions and types that a unit does not use. Refusals: HeaderScope if more
// than max units are left (0: MaxUnits); NoFtraceSite if assembly or code that
// runs outside of the kernel differs.
func (t *Tree) Affected(ctx context.Context, ov *Overlay, files []string, skip []string, max int) (*Affected, error) {
	if max <= 0 {
		max = MaxUnits
	}
	a := &Affected{}
	files, err := t.notOnlyComments(ov, files)
	if err != nil || len(files) == 0 {
		return a, err
	}
	cands, err := t.readersOf(ctx, files)
	if err != nil {
		return nil, err
	}
	cands = slices.DeleteFunc(cands, func(u *TU) bool { return slices.Contains(skip, u.Source) || bootOnly(u) })
	a.Readers = len(cands)
	if err := t.offsetsSame(ctx, ov, files); err != nil {
		return nil, err
	}
	if cands, err = t.mayNotice(ctx, ov, files, cands); err != nil {
		return nil, err
	}
	c := &comparison{tree: t, ov: ov, all: cands, max: max, files: files, result: a}
	if err := c.run(ctx); err != nil {
		return nil, err
	}
	for i, u := range a.Units {
		if a.Units[i], err = t.settled(ctx, u); err != nil {
			return nil, err
		}
	}
	slices.SortFunc(a.Units, func(x, y *TU) int { return strings.Compare(x.Object, y.Object) })
	return a, nil
}

// notOnlyComments leaves out the files in which only comments and blanks differ.
func (t *Tree) notOnlyComments(ov *Overlay, files []string) ([]string, error) {
	var out []string
	for _, f := range files {
		new := ov.changed[f]
		if new == nil {
			out = append(out, f)
			continue
		}
		old, err := t.read(f)
		if err != nil {
			return nil, err
		}
		if !sameTokens(old, new) {
			out = append(out, f)
		}
	}
	return out, nil
}

func (t *Tree) read(file string) ([]byte, error) {
	b, err := os.ReadFile(filepath.Join(t.Src, file))
	if err != nil {
		return nil, fmt.Errorf("comparing versions of a header: %w", err)
	}
	return b, nil
}

// comparison preprocesses units in both versions.
type comparison struct {
	tree  *Tree
	ov    *Overlay
	all   []*TU
	max   int
	files []string

	mu     sync.Mutex
	result *Affected
}

// errEnough ends a comparison that has found more than may be compiled.
var errEnough = errors.New("enough")

func (c *comparison) run(ctx context.Context) error {
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(c.tree.opt.Jobs)
	for _, tu := range c.all {
		g.Go(func() error {
			if gctx.Err() != nil {
				return gctx.Err()
			}
			return c.compare(gctx, tu)
		})
	}
	err := g.Wait()
	if !errors.Is(err, errEnough) {
		return err
	}
	var names []string
	for _, u := range c.result.Units[:min(3, len(c.result.Units))] {
		names = append(names, u.Source)
	}
	e := refuse.New(refuse.HeaderScope, c.files[0], "of the %d files that read it more than %d would have to be compiled, among them %s (%d were compared until that was clear)",
		c.result.Readers, c.max, strings.Join(names, ", "), c.result.Compared)
	e.Remedy = fmt.Sprintf("give --max-units if the time does not matter (%d files take about %d minutes), or move the change into the .c files", 2*c.max, (2*c.max*2+59)/60)
	return e
}

func (c *comparison) compare(ctx context.Context, tu *TU) error {
	tu, text, code, err := c.tree.differ(ctx, tu, c.ov)
	if err == nil && code && !tu.ordinary() {
		err = c.tree.special(ctx, tu, c.ov)
		code = false
	}
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.result.Compared++
	c.tree.progress("comparing what reads the header", int64(c.result.Compared), int64(len(c.all)))
	if text {
		c.result.Differ++
	}
	if code {
		c.result.Units = append(c.result.Units, tu)
		if len(c.result.Units) > c.max {
			return errEnough
		}
	}
	return nil
}

// neutral takes out of a text what says only where something stands: a header
// in which lines move changes nothing else in what reads it.
var neutral = []string{"-P", "-w", "-Wno-error", "-D__LINE__=0", "-D__COUNTER__=0"}

// differ compares the unit's preprocessed texts. The unit given back is the one
// to compile: another build folder's, if headers are missing in this one.
func (t *Tree) differ(ctx context.Context, tu *TU, ov *Overlay) (_ *TU, text, code bool, err error) {
	tu, old, err := t.original(ctx, tu)
	if err != nil {
		return nil, false, false, err
	}
	new, _, err := t.invoke(tu, ov, nil).preprocess(ctx, neutral...)
	if err != nil {
		return nil, false, false, err
	}
	// A module's __FILE__ is where the file lies.
	new = replaceRoot(new, ov.Root, t.Src)
	text, code = differs(old, new)
	if strings.HasSuffix(tu.Source, ".S") {
		code = text // nothing in assembly can be told unused
	}
	return tu, text, code, nil
}
