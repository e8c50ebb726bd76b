// SPDX-License-Identifier: Apache-2.0

package kbuild

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/lupatch/lupatch/internal/refuse"
)

// Recognise says what a folder is: a kernel tree or build folder (KindTree),
// the folder of a module (KindModule), or neither ("").
func Recognise(dir string) Kind {
	switch {
	case isSourceTree(dir), isBuildFolder(dir):
		return KindTree
	case isModuleDir(dir):
		return KindModule
	}
	return ""
}

func isSourceTree(dir string) bool {
	return exists(filepath.Join(dir, "Kbuild")) && exists(filepath.Join(dir, "Makefile")) && exists(filepath.Join(dir, "scripts/Makefile.build"))
}

func isBuildFolder(dir string) bool {
	return exists(filepath.Join(dir, ".config")) && exists(filepath.Join(dir, "Makefile")) && isDir(filepath.Join(dir, "source"))
}

// openDir opens a folder of the user, by what is in it.
func (t *Tree) openDir(ctx context.Context, dir string) error {
	switch {
	case isSourceTree(dir):
		if !exists(filepath.Join(dir, ".config")) {
			e := refuse.New(refuse.SourceUnavailable, dir, "the kernel tree is not configured: it has no .config")
			e.Remedy = "copy the configuration of the running kernel from /boot into it as .config, or give the build folder (O=) instead"
			return e
		}
		return t.openTree(ctx, dir, dir)
	case isBuildFolder(dir):
		src, err := filepath.EvalSymlinks(filepath.Join(dir, "source"))
		if err != nil {
			return err
		}
		return t.openTree(ctx, src, dir)
	case isModuleDir(dir):
		return t.openModule(ctx, dir)
	}
	return refuse.New(refuse.SourceUnavailable, dir, "the folder is neither a kernel tree nor that of a module (no Kbuild or Makefile with obj-m)")
}

var utsRelease = regexp.MustCompile(`#define UTS_RELEASE "([^"]+)"`)

var objM = regexp.MustCompile(`(?m)^\s*obj-(m|\$[({]\w+[)}])\s*[:+?]?=`)

func isModuleDir(dir string) bool {
	for _, name := range []string{"Kbuild", "Makefile"} {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err == nil && objM.Match(b) {
			return true
		}
	}
	return false
}

// openTree opens a configured kernel tree. The build happens in a private
// folder: a copy of what the configuration step and the host tools have made,
// or, if nothing has been built yet, one in which `make prepare` is run.
func (t *Tree) openTree(ctx context.Context, src, obj string) error {
	t.Kind, t.Src, t.KernelSrc, t.UserObj = KindTree, src, src, obj
	var err error
	if t.Config, err = ReadConfig(filepath.Join(obj, ".config")); err != nil {
		return err
	}
	t.CC = t.Config.compilerCommand()
	t.key = "tree-" + treeKey(src, obj)
	t.Obj = filepath.Join(t.cache, "obj", t.key)
	if err := once(ctx, t.Obj, func(tmp string) error {
		if prepared(obj) {
			return copyPrepared(obj, tmp)
		}
		return t.prepare(ctx, tmp, filepath.Join(obj, ".config"))
	}); err != nil {
		return err
	}
	// What the kernel will say itself; include/config/kernel.release is only
	// what the makefiles made of it.
	b, err := os.ReadFile(filepath.Join(t.Obj, "include/generated/utsrelease.h"))
	if err != nil {
		return fmt.Errorf("reading the release of %s: %w", src, err)
	}
	m := utsRelease.FindSubmatch(b)
	if m == nil {
		return fmt.Errorf("reading the release of %s: %q", src, b)
	}
	t.Release = string(m[1])
	if t.opt.Release != "" && t.opt.Release != t.Release {
		return refuse.New(refuse.SourceUnavailable, src, "the tree builds %s, asked for is %s", t.Release, t.opt.Release)
	}
	return nil
}

// treeKey names a tree by its place and configuration: a changed configuration
// needs another build folder.
func treeKey(src, obj string) string {
	h := sha256.New()
	for _, p := range []string{src, obj} {
		fmt.Fprintf(h, "%s\x00", p)
	}
	fmt.Fprintf(h, "%v\x00", prepared(obj))
	for _, name := range []string{".config", "include/generated/autoconf.h", "include/generated/utsrelease.h", "Module.symvers"} {
		b, _ := os.ReadFile(filepath.Join(obj, name))
		fmt.Fprintf(h, "%d\x00", len(b))
		h.Write(b)
	}
	return hex.EncodeToString(h.Sum(nil))[:16]
}

// prepared says whether `make prepare` has been run in the build folder.
func prepared(obj string) bool {
	for _, name := range []string{"include/generated/autoconf.h", "include/generated/utsrelease.h", "include/generated/asm-offsets.h", "scripts/basic/fixdep", "scripts/mod/modpost"} {
		if !exists(filepath.Join(obj, name)) {
			return false
		}
	}
	// Debian's headers packages have the linker script elsewhere.
	return exists(filepath.Join(obj, "scripts/module.lds")) || exists(filepath.Join(obj, packagedModuleLds))
}

const packagedModuleLds = "arch/x86/module.lds"

// copyPrepared copies what compiling needs out of a build folder: generated
// headers and host tools, but no object.
func copyPrepared(obj, tmp string) error {
	for _, name := range []string{".config", "Module.symvers", "include/config", "include/generated", "arch/x86/include/generated", packagedModuleLds, "scripts", "tools/objtool/objtool"} {
		from := filepath.Join(obj, name)
		if !exists(from) {
			continue
		}
		// Of scripts only what was built: the rest is source.
		skip := func(rel string, d fs.DirEntry) bool {
			if d.IsDir() {
				return false
			}
			return isProduct(rel) || name == "scripts" && !isTool(filepath.Join(from, rel))
		}
		if err := copyTree(from, filepath.Join(tmp, name), skip); err != nil {
			return fmt.Errorf("copying the build folder: %w", err)
		}
	}
	return settle(tmp)
}

// isTool says whether a file is a program or the linker script of modules.
func isTool(p string) bool {
	if filepath.Base(p) == "module.lds" {
		return true
	}
	f, err := os.Open(p)
	if err != nil {
		return false
	}
	defer f.Close()
	var magic [4]byte
	_, err = f.Read(magic[:])
	return err == nil && string(magic[:]) == "\x7fELF"
}

// isProduct says whether a file is something that a build leaves behind.
func isProduct(name string) bool {
	base := filepath.Base(name)
	switch filepath.Ext(base) {
	case ".o", ".a", ".ko", ".cmd", ".mod", ".order", ".d", ".lto", ".usyms":
		return true
	}
	return strings.HasSuffix(base, ".mod.c") || base == "Module.symvers"
}

// prepare runs `make prepare` for a configuration in a new build folder.
func (t *Tree) prepare(ctx context.Context, obj, config string) error {
	src, tidy, err := t.cleanSource("scripts", "tools")
	if err != nil {
		return err
	}
	defer tidy()
	if err := copyFile(config, filepath.Join(obj, ".config")); err != nil {
		return err
	}
	t.progress("preparing build folder", 0, 0)
	args := append(t.makeVars(), "O="+obj, fmt.Sprintf("-j%d", t.opt.Jobs))
	if t.Release == "" {
		args = []string{"ARCH=x86", "CC=" + t.CC, "O=" + obj, fmt.Sprintf("-j%d", t.opt.Jobs)}
	}
	for _, goal := range [][]string{{"olddefconfig"}, {"prepare", "modules_prepare"}} {
		cmd := exec.CommandContext(ctx, "make", append(args, goal...)...)
		cmd.Dir, cmd.Env = src, cleanEnv()
		if _, log, err := runMake(cmd); err != nil {
			return fmt.Errorf("running make %s: %w: %s", goal[0], err, firstErrors(log, 3))
		}
	}
	return settle(obj)
}
