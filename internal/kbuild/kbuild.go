// SPDX-License-Identifier: Apache-2.0

// Package kbuild finds the source, configuration and flags of a kernel and
// compiles single files exactly as the distribution did, without building the
// kernel.
//
// What a file is compiled with is not computed here: the kernel's own makefiles
// are asked (`make -n`), in a private build folder. A distribution's headers
// package carries the generated headers, the configuration and objtool, so that
// such a folder takes a second to make; nothing of the kernel has to be built
// for most files.
//
// Nothing is ever written into the user's tree or into the cached source.
package kbuild

import (
	"context"
	"fmt"
	"path/filepath"
	"runtime"
	"sync"

	"github.com/lupatch/lupatch/internal/deb"
	"github.com/lupatch/lupatch/internal/refuse"
)

// Kind says where a tree's source comes from.
type Kind string

// The kinds of trees.
const (
	// KindPackages is a distribution's source package.
	KindPackages Kind = "packages"
	// KindTree is a configured kernel tree of the user, built or not.
	KindTree Kind = "tree"
	// KindModule is the folder of an out-of-tree module.
	KindModule Kind = "module"
)

// Progress is told how far a piece of work is; total is 0 while it is unknown.
// It may be called from several goroutines.
type Progress func(stage string, done, total int64)

// Options say what Open is to find. The zero value of each field is usable.
type Options struct {
	// Dir is a configured kernel tree, a build folder made with O=, or the
	// folder of an out-of-tree module. Empty means the distribution's source
	// of Release.
	Dir string
	// Release is the kernel's, as `uname -r` says it. It is needed unless Dir
	// is a kernel tree.
	Release string
	// SourceVersion overrides the version of the source, headers and image
	// packages (for example "6.1.170-3").
	SourceVersion string
	// CacheDir is where sources, build folders and objects are kept; empty
	// means os.UserCacheDir()/lupatch/kbuild.
	CacheDir string
	// Debs is the cache of packages; nil means deb.New("").
	Debs *deb.Cache
	// AnyCompiler accepts a compiler other than the one the kernel was built
	// with. Run-pre verification is then what finds a difference.
	AnyCompiler bool
	// Jobs bounds the compilers that run at once; 0 means GOMAXPROCS.
	Jobs int
	// Progress may be nil.
	Progress Progress
}

// Tree is a kernel's (or module's) source with all that is needed to compile a
// file of it. It is safe for concurrent use.
type Tree struct {
	Kind Kind
	// Release is the kernel's, as `uname -r` says it.
	Release string
	// Version is the version of the distribution's packages; empty for a
	// tree of the user.
	Version string
	// Src is the folder that source paths are relative to: the kernel's root,
	// or the module's folder.
	Src string
	// KernelSrc is the root of the kernel's source; the same as Src unless
	// Kind is KindModule.
	KernelSrc string
	// Obj is the private build folder (O=).
	Obj string
	// UserObj is the user's own build folder, where built binaries may be;
	// empty for KindPackages.
	UserObj string
	// Config is the kernel's configuration.
	Config Config
	// CC is the compiler's command.
	CC string
	// Notes are facts the user should know, one sentence each.
	Notes []string

	opt   Options
	cache string
	key   string // names this tree in the cache

	mu       sync.Mutex
	listings map[string]*listing

	graphMu  sync.Mutex
	included *graph

	importsMu sync.Mutex
	imported  *imports

	idOnce sync.Once
	id     string
	idErr  error

	lateMu   sync.Mutex
	lateDone bool
	late     []string // objtool's command line for vmlinux, see lateKernel

	symOnce sync.Once
	symvers map[string]Export
	symErr  error
}

// Open finds source, configuration and compiler of a kernel or module. It
// downloads packages if it has to. Refusals: SourceUnavailable,
// CompilerMismatch.
func Open(ctx context.Context, opt Options) (*Tree, error) {
	cache, err := cacheRoot(opt.CacheDir)
	if err != nil {
		return nil, err
	}
	if opt.Jobs <= 0 {
		opt.Jobs = runtime.GOMAXPROCS(0)
	}
	t := &Tree{opt: opt, cache: cache, listings: map[string]*listing{}}
	if opt.Dir == "" {
		err = t.openPackages(ctx)
	} else {
		var dir string
		if dir, err = filepath.Abs(opt.Dir); err != nil {
			return nil, err
		}
		if dir, err = filepath.EvalSymlinks(dir); err != nil {
			return nil, refuse.New(refuse.SourceUnavailable, opt.Dir, "the folder cannot be read: %v", err)
		}
		err = t.openDir(ctx, dir)
	}
	if err != nil {
		return nil, fmt.Errorf("preparing kernel source: %w", err)
	}
	if err := t.checkCompiler(ctx); err != nil {
		return nil, err
	}
	return t, nil
}

func (t *Tree) progress(stage string, done, total int64) {
	if t.opt.Progress != nil {
		t.opt.Progress(stage, done, total)
	}
}

func (t *Tree) note(format string, args ...any) {
	t.Notes = append(t.Notes, fmt.Sprintf(format, args...))
}
