// SPDX-License-Identifier: Apache-2.0

package build

import (
	"path"
	"strings"

	"github.com/lupatch/lupatch/internal/elfobj"
	"github.com/lupatch/lupatch/internal/kallsyms"
	"github.com/lupatch/lupatch/internal/kbuild"
	"github.com/lupatch/lupatch/internal/refuse"
	"github.com/lupatch/lupatch/internal/runpre"
	"github.com/lupatch/lupatch/patchgen"
)

// kernelSymbols answers patchgen's questions for one translation unit.
type kernelSymbols struct {
	exports map[string]kbuild.Export
	image   *kallsyms.Table
	placed  *runpre.Result
	module  *elfobj.File // nil for vmlinux

	memory     runpre.Memory
	sealed     map[uint64]bool    // of vmlinux; nil if nothing needs ENDBR
	sealedHere map[codePlace]bool // of the module
}

// symbolsOf answers for u.
func (j *job) symbolsOf(u *unit) *kernelSymbols {
	ks := &kernelSymbols{exports: j.exports, image: j.syms, placed: u.placed, memory: j.image, sealed: j.sealed}
	if m := j.modules[u.tu.Unit]; m != nil {
		ks.module, ks.sealedHere = m.obj, m.sealed
	}
	return ks
}

// moduleName is the name the kernel knows a module by.
func moduleName(p string) string { return strings.ReplaceAll(path.Base(p), "-", "_") }

func (k *kernelSymbols) Exported(name string) (owner, ns string, ok bool) {
	e, ok := k.exports[name]
	return moduleName(e.Module), e.Namespace, ok
}

func (k *kernelSymbols) Locate(name string, local bool) (patchgen.Ref, error) {
	if k.module != nil {
		ref, err := k.placed.LocateModule(k.module, name, local)
		if e, ok := refuse.As(err); !ok || e.ID != refuse.UnresolvedSymbol || local {
			return patchgen.Ref{Object: k.placed.Unit, Symbol: ref.Name, Sympos: ref.Sympos}, err
		}
	}
	ref, err := k.placed.LocateKernel(k.image, name, local && k.module == nil)
	return patchgen.Ref{Object: patchgen.VMLinux, Symbol: ref.Name, Sympos: ref.Sympos}, err
}
