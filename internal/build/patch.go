// SPDX-License-Identifier: Apache-2.0

package build

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"mime"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/bluekeyes/go-gitdiff/gitdiff"
	"github.com/lupatch/lupatch/internal/manifest"
	"github.com/lupatch/lupatch/internal/refuse"
	"github.com/lupatch/lupatch/patchgen"
)

// change is a source patch applied in memory.
type change struct {
	sha256  string
	text    []byte // as it was given
	subject string
	cves    []string
	// files holds the new content by path in the source tree.
	files map[string][]byte
	lines map[string]*patchgen.LineMap
	// base has files that differ from the source tree before the patch.
	base map[string][]byte
	// skipped lists files that no code is made of.
	skipped []string
	// fuzz is how many outer lines of context need not fit (see place).
	fuzz int
	// inexact describes hunks that were placed with fuzz.
	inexact []string
}

// MaxPatch bounds the size of a patch in bytes.
const MaxPatch = manifest.MaxPatch

// subjectLine matches a subject as mail writes it, which may go on in lines
// that begin with a blank.
var subjectLine = regexp.MustCompile(`(?m)^Subject: *(?:\[[^\]]*\] *)?(.+(?:\n[ \t]+\S.*)*)$`)

var cveID = regexp.MustCompile(`\bCVE-\d{4}-\d{4,}\b`)

// readPatch parses a patch and applies it to the source below root, in memory.
func readPatch(name string, text []byte, root string, fuzz int) (*change, error) {
	return readPatchOn(name, text, root, nil, fuzz)
}

// readPatchOn is readPatch for a source of which some files are given by base.
func readPatchOn(name string, text []byte, root string, base map[string][]byte, fuzz int) (*change, error) {
	sum := sha256.Sum256(text)
	c := &change{sha256: hex.EncodeToString(sum[:]), text: text, files: map[string][]byte{}, lines: map[string]*patchgen.LineMap{}, base: base, fuzz: fuzz}
	if len(text) > MaxPatch {
		return nil, refuse.New(refuse.PatchMalformed, name, "the file is larger than %d bytes", MaxPatch)
	}
	if len(text) > 0 && text[len(text)-1] != '\n' {
		// Lost in copying: that a file does not end in one is said by a line
		// of its own ("\ No newline at end of file").
		text = append(slices.Clip(text), '\n')
	}
	text = addPrefixes(text)
	files, preamble, err := parseDiff(text)
	if err != nil {
		return nil, refuse.New(refuse.PatchMalformed, name, "%s", strings.TrimPrefix(err.Error(), "gitdiff: "))
	}
	if len(files) == 0 {
		return nil, refuse.New(refuse.PatchMalformed, name, "no diff was found in it")
	}
	if err := checkComplete(string(text), preamble, files); err != nil {
		return nil, refuse.New(refuse.PatchMalformed, name, "%v", err)
	}
	c.describe(preamble)
	for _, f := range files {
		if err := c.apply(f, root); err != nil {
			return nil, err
		}
	}
	if len(c.files) == 0 {
		return nil, refuse.New(refuse.NothingChanged, name, "it touches only files that no code is made of: %s", strings.Join(c.skipped, ", "))
	}
	return c, nil
}

// paths lists the files in the order of their names.
func (c *change) paths() []string { return slices.Sorted(maps.Keys(c.files)) }

// parseDiff turns a panic of the parser on foreign bytes into an error.
func parseDiff(text []byte) (files []*gitdiff.File, preamble string, err error) {
	defer func() {
		if p := recover(); p != nil {
			files, err = nil, fmt.Errorf("the diff cannot be parsed: %v", p)
		}
	}()
	return gitdiff.Parse(bytes.NewReader(text))
}

func (c *change) describe(preamble string) {
	if h, err := gitdiff.ParsePatchHeader(preamble); err == nil && h.Title != "" {
		c.subject = h.Title
	}
	if m := subjectLine.FindStringSubmatch(preamble); m != nil {
		c.subject = strings.Join(strings.Fields(m[1]), " ")
		if s, err := new(mime.WordDecoder).DecodeHeader(c.subject); err == nil {
			c.subject = s
		}
	}
	c.cves = cveID.FindAllString(preamble, -1)
	slices.Sort(c.cves)
	c.cves = slices.Compact(c.cves)
}

// noCode reports files that a patch may touch without any effect on code.
func noCode(p string) bool {
	switch ext := filepath.Ext(p); {
	case strings.HasPrefix(p, "Documentation/"), ext == ".rst", ext == ".txt", ext == ".yaml", p == "MAINTAINERS", p == "CREDITS":
		return true
	}
	return strings.HasPrefix(p, "tools/") || strings.HasPrefix(p, "samples/")
}

func (c *change) apply(f *gitdiff.File, root string) error {
	name := strip(f, root)
	switch {
	case noCode(name):
		c.skipped = append(c.skipped, name)
		return nil
	case strings.HasPrefix(name, "arch/") && strings.Contains(name, "/vdso/"):
		return refuse.New(refuse.NoFtraceSite, name, "the vDSO runs in user space and is mapped into every process; it cannot be redirected")
	case filepath.Ext(name) == ".S":
		return refuse.New(refuse.NoFtraceSite, name, "assembly has no ftrace sites")
	case f.IsBinary:
		return refuse.New(refuse.PatchScope, name, "a binary diff")
	case f.IsNew:
		return refuse.New(refuse.PatchScope, name, "the patch adds a file; put its code into a file that the kernel already builds")
	case f.IsDelete, f.IsRename:
		return refuse.New(refuse.PatchScope, name, "the patch removes or renames the file")
	case len(f.TextFragments) == 0: // a change of mode
		c.skipped = append(c.skipped, name)
		return nil
	case filepath.Ext(name) != ".c" && filepath.Ext(name) != ".h":
		return refuse.New(refuse.PatchScope, name, "the file is neither C source nor a header")
	}
	if _, twice := c.files[name]; twice {
		return refuse.New(refuse.PatchMalformed, name, "the file occurs twice in the patch")
	}
	old, ok := c.base[name]
	if !ok {
		var err error
		if old, err = os.ReadFile(filepath.Join(root, name)); errors.Is(err, fs.ErrNotExist) {
			return refuse.New(refuse.PatchDoesNotApply, name, "the source has no such file")
		} else if err != nil {
			return err
		}
	}
	lm, err := c.relocateHunks(name, f, old)
	if err != nil {
		return err
	}
	var out bytes.Buffer
	if err := gitdiff.Apply(&out, bytes.NewReader(old), f); err != nil {
		return refuse.New(refuse.PatchDoesNotApply, name, "%v", err)
	}
	c.files[name], c.lines[name] = out.Bytes(), lm
	return nil
}

// strip finds the file's path in the tree: as git writes it, or with leading
// folders taken away (patch -p1, -p2), as diffs of two trees have them.
func strip(f *gitdiff.File, root string) string {
	name := f.NewName
	if f.IsDelete || name == "" {
		name = f.OldName
	}
	name = filepath.ToSlash(filepath.Clean("/" + name))[1:]
	for p := name; ; {
		if _, err := os.Stat(filepath.Join(root, p)); err == nil {
			return p
		}
		i := strings.IndexByte(p, '/')
		if i < 0 {
			break
		}
		p = p[i+1:]
	}
	// What `diff -u a b` puts in front is left in place by the parser.
	if rest, ok := strings.CutPrefix(name, "b/"); ok {
		return rest
	}
	return strings.TrimPrefix(name, "a/")
}
