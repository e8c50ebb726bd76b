// SPDX-License-Identifier: Apache-2.0

package kbuild

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/google/renameio/v2"
	"github.com/klauspost/compress/zstd"
)

// listing is what the makefiles would do to build a folder and all below it.
type listing struct {
	// Commands maps an object to the shell text that makes it.
	Commands map[string]string
	// Sources maps a source to its object. All paths are clean and relative to
	// the tree's root.
	Sources map[string]string
	// Modules maps a module's path, without suffix, to its objects.
	Modules map[string][]string
	// Late maps a module's path, without suffix, to the shell text that runs
	// objtool on it, where that happens after linking.
	Late map[string]string
	// Blocked are objects that need something which only host tools can make.
	Blocked map[string]string

	obj string // the build folder
}

// srcMark and objMark stand for the two roots in what is kept on disk.
const (
	srcMark = "@SRC@"
	objMark = "@OBJ@"
	// listingVersion changes when what is kept changes.
	listingVersion = "2"
)

var (
	// fixdepLine is the step behind every compilation: fixdep DEPFILE OBJECT
	// 'COMMAND'. The command is what kbuild keeps in the .cmd file.
	fixdepLine = regexp.MustCompile(`scripts/basic/fixdep (\S+) (\S+) '`)
	// modLine lists the objects of a module (cmd_mod in scripts/Makefile.build).
	modLine = regexp.MustCompile(`; printf '%s\\n' ([^|']*)\| *\S*awk '[^']*print\("([^"]*)"\$+0\)[^']*' > (\S+)\.mod;`)
	// lateLine runs objtool on a module's linked objects (cmd_ld_multi_m there).
	lateLine  = regexp.MustCompile(` -r -o (\S+)\.o @\S+\.mod *; *(\S*/objtool/objtool [^;']*)`)
	blockedBy = regexp.MustCompile(`No rule to make target '([^']+)', needed by '([^']+)'`)
)

// list asks the makefiles about a folder. Answers are kept in memory and on
// disk: they only depend on the tree and its configuration.
func (t *Tree) list(ctx context.Context, dir string) (*listing, error) {
	if t.Kind == KindModule {
		dir = "." // its makefile is asked as a whole
	}
	keep := ""
	if t.Kind == KindPackages { // another tree's makefiles may change at any time
		keep = strings.ReplaceAll(dir, "/", "_")
	}
	return t.listFolder(ctx, dir, t.Obj, keep)
}

// listFolder is list for a build folder, with the name under which the answer is
// kept on disk; empty means that it is not.
func (t *Tree) listFolder(ctx context.Context, dir, obj, keep string) (*listing, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	key := dir
	if obj != t.Obj {
		key = "full:" + dir
	}
	if l, ok := t.listings[key]; ok {
		return l, nil
	}
	kept := filepath.Join(t.cache, "commands", t.key, "v"+listingVersion, keep+".json.zst")
	if keep != "" {
		if l, ok := readListing(kept); ok {
			l.obj = obj
			t.listings[key] = l
			return l, nil
		}
	}
	l, err := t.askMake(ctx, dir, obj)
	if err != nil {
		return nil, fmt.Errorf("asking the makefiles about %s: %w", dir, err)
	}
	t.listings[key] = l
	if keep != "" {
		keepListing(kept, l)
	}
	return l, nil
}

// askMake runs the makefiles without letting them do anything.
func (t *Tree) askMake(ctx context.Context, dir, obj string) (*listing, error) {
	src, tidy, err := t.cleanSource(dir)
	if err != nil {
		return nil, err
	}
	defer tidy()
	var cmd *exec.Cmd
	if t.Kind == KindModule {
		cmd = t.moduleCommand(ctx, obj, src, "-n", "-k")
	} else {
		args := []string{"-n", "-k", dir + "/"}
		if dir == "." {
			t.progress("listing what the kernel is made of", 0, 0)
			// What several makes print would get mixed up without -Oline.
			args = append(args, fmt.Sprintf("-j%d", t.opt.Jobs), "-Oline")
		}
		cmd = t.makeCommand(ctx, src, obj, args...)
	}
	out, log, err := runMake(cmd)
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	l := t.parseListing(out, log, src, obj)
	if err != nil && len(l.Commands) == 0 && !strings.Contains(log, "No rule to make target") {
		return nil, fmt.Errorf("%w: %s", err, firstErrors(log, 3))
	}
	return l, nil
}

// relative gives a path relative to the first of the roots it is below, and
// cleaned: the makefiles of some drivers say dir/../other/file.o.
func relative(p string, roots ...string) string {
	for _, root := range roots {
		if rest, ok := strings.CutPrefix(p, root+"/"); ok {
			p = rest
			break
		}
	}
	return path.Clean(p)
}

// parseListing reads what `make -n` printed for source src and build folder obj.
func (t *Tree) parseListing(out []byte, log, src, obj string) *listing {
	rel := func(p string) string { return relative(p, src, t.Src, obj) }
	mark := strings.NewReplacer(src, srcMark, obj, objMark)
	l := &listing{Commands: map[string]string{}, Sources: map[string]string{}, Modules: map[string][]string{}, Late: map[string]string{}, Blocked: map[string]string{}, obj: obj}
	for line := range bytes.Lines(out) {
		line = bytes.TrimSuffix(line, []byte("\n"))
		if m := fixdepLine.FindSubmatchIndex(line); m != nil {
			text, ok := unquote(string(line[m[1]:]))
			if !ok {
				continue
			}
			o := rel(string(line[m[4]:m[5]]))
			l.Commands[o] = mark.Replace(text)
			if c := sourceOf(text); c != "" {
				l.Sources[rel(c)] = o
			}
		} else if m := modLine.FindSubmatch(line); m != nil {
			var objs []string
			seen := map[string]bool{}
			for o := range strings.FieldsSeq(string(m[1])) {
				o = rel(string(m[2]) + o)
				if !seen[o] {
					seen[o] = true
					objs = append(objs, o)
				}
			}
			l.Modules[rel(string(m[3]))] = objs
		} else if m := lateLine.FindSubmatch(line); m != nil {
			l.Late[rel(string(m[1]))] = mark.Replace(strings.TrimSpace(string(m[2])))
		}
	}
	for _, m := range blockedBy.FindAllStringSubmatch(log, -1) {
		l.Blocked[rel(m[2])] = rel(m[1])
	}
	return l
}

// unquote reads a word in single quotes whose opening quote is gone, with
// quotes inside it as '\”. What make prints for a makefile, make would read
// again: \# and $$ are # and $ there.
func unquote(s string) (string, bool) {
	var b strings.Builder
	for {
		i := strings.IndexByte(s, '\'')
		if i < 0 {
			return "", false
		}
		b.WriteString(s[:i])
		if rest, ok := strings.CutPrefix(s[i:], `'\''`); ok {
			b.WriteByte('\'')
			s = rest
			continue
		}
		return strings.NewReplacer(`\#`, `#`, `$$`, `$`).Replace(b.String()), true
	}
}

// sourceOf is the C file that the first command of the text compiles: kbuild
// puts it last.
func sourceOf(text string) string {
	first, _, _ := strings.Cut(text, ";")
	f := strings.Fields(first)
	if len(f) == 0 || !strings.HasSuffix(f[len(f)-1], ".c") {
		return ""
	}
	return f[len(f)-1]
}

func unmark(s, src, obj string) string {
	return strings.NewReplacer(srcMark, src, objMark, obj).Replace(s)
}

func readListing(file string) (*listing, bool) {
	f, err := os.Open(file)
	if err != nil {
		return nil, false
	}
	defer f.Close()
	z, err := zstd.NewReader(f, zstd.WithDecoderConcurrency(1))
	if err != nil {
		return nil, false
	}
	defer z.Close()
	var l listing
	if json.NewDecoder(z).Decode(&l) != nil {
		return nil, false
	}
	return &l, true
}

// keepListing writes it to disk; a failure only costs time later.
func keepListing(file string, l *listing) {
	if os.MkdirAll(filepath.Dir(file), 0o755) != nil {
		return
	}
	var b bytes.Buffer
	z, err := zstd.NewWriter(&b, zstd.WithEncoderConcurrency(1))
	if err != nil {
		return
	}
	if json.NewEncoder(z).Encode(l) != nil || z.Close() != nil {
		return
	}
	_ = renameio.WriteFile(file, b.Bytes(), 0o644)
}
