// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/lupatch/lupatch/internal/build"
	"github.com/lupatch/lupatch/internal/elfobj"
	"github.com/lupatch/lupatch/patchgen"
)

// one compares one pair of objects as a program of its own, which is how
// create-diff-object is used: read both, check, write a livepatch object.
func one(args []string) error {
	if len(args) != 8 {
		return errors.New("-one wants UNIT OLD NEW SYMVERS PATCH SOURCE-ROOT FILE OUT")
	}
	unit, oldPath, newPath, symvers, patch, root, source, out := args[0], args[1], args[2], args[3], args[4], args[5], args[6], args[7]
	oldBytes, err := os.ReadFile(oldPath)
	if err != nil {
		return err
	}
	newBytes, err := os.ReadFile(newPath)
	if err != nil {
		return err
	}
	old, err := elfobj.Read(oldBytes)
	if err != nil {
		return err
	}
	new, err := elfobj.Read(newBytes)
	if err != nil {
		return err
	}
	lines, err := build.LineMaps(patch, root)
	if err != nil {
		return err
	}
	extents, err := patchgen.ReadExtents(oldBytes, source)
	if err != nil {
		return err
	}
	k, err := readSymvers(symvers)
	if err != nil {
		return err
	}
	k.unit, k.own = unit, map[string]bool{}
	for _, y := range old.Symbols {
		k.own[y.Name] = y.Section != nil
	}
	res, err := patchgen.Generate(patchgen.Input{
		Unit: unit, Old: old, New: new, Sizes: patchgen.DefaultSizes(), Lines: lines[source], OldLines: extents, Kernel: k, AliasPrefix: "new_",
	})
	if err != nil {
		return err
	}
	for _, f := range res.Functions {
		what := "changed"
		if f.New {
			what = "new"
		}
		fmt.Printf("%s function: %s\n", what, f.NewName)
	}
	if res.Empty() {
		return errors.New("no changed functions were found")
	}
	b, err := res.Object.Bytes()
	if err != nil {
		return err
	}
	return os.WriteFile(out, b, 0o644)
}

// symvers knows the kernel as create-diff-object is told of it: what is
// exported, and that the unit's own symbols are where it says.
type symvers struct {
	unit    string
	own     map[string]bool
	exports map[string][2]string // module and namespace
}

func readSymvers(path string) (*symvers, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	k := &symvers{exports: map[string][2]string{}}
	s := bufio.NewScanner(f)
	for s.Scan() {
		c := strings.Split(s.Text(), "\t")
		if len(c) < 4 {
			continue
		}
		ns := ""
		if len(c) > 4 {
			ns = c[4]
		}
		k.exports[c[1]] = [2]string{strings.ReplaceAll(c[2][strings.LastIndexByte(c[2], '/')+1:], "-", "_"), ns}
	}
	return k, s.Err()
}

// Callable says yes: what is sealed is the build's to find out.
func (*symvers) Callable(patchgen.Ref) bool { return true }

func (k *symvers) Exported(name string) (owner, namespace string, ok bool) {
	e, ok := k.exports[name]
	return e[0], e[1], ok
}

func (k *symvers) Locate(name string, local bool) (patchgen.Ref, error) {
	if k.own[name] {
		return patchgen.Ref{Object: k.unit, Symbol: name}, nil
	}
	return patchgen.Ref{Object: patchgen.VMLinux, Symbol: name}, nil
}
