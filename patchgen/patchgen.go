// SPDX-License-Identifier: Apache-2.0

// Package patchgen makes a livepatch object out of two versions of one
// translation unit. It is a pure function of its input: it calls no compiler
// and knows no running kernel but what it is told.
//
// The objects have to be compiled with -ffunction-sections, -fdata-sections
// and -fno-optimize-sibling-calls and to have been through objtool, unless
// the kernel runs that late.
package patchgen

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/lupatch/lupatch/internal/elfobj"
	"github.com/lupatch/lupatch/internal/refuse"
	"github.com/lupatch/lupatch/internal/review"
)

// VMLinux is the name of the kernel image among the units.
const VMLinux = "vmlinux"

// Symbols tells where the running kernel has what code refers to.
type Symbols interface {
	// Exported says which unit exports a symbol and in what namespace.
	Exported(name string) (owner, namespace string, ok bool)
	// Locate finds a symbol of the unit under work, or a global one of the
	// kernel. local asks for a static one of this translation unit. A symbol
	// that cannot be told from its namesakes is refused.
	Locate(name string, local bool) (Ref, error)
	// Callable reports whether a function of the running kernel may be called
	// through a pointer. On kernels with IBT its entry needs an ENDBR
	// instruction for that, which the kernel takes away where it needs none
	// itself. It is true of what is no function.
	Callable(Ref) bool
}

// Ref is a symbol of the running kernel.
type Ref struct {
	Object string // "vmlinux" or a module
	Symbol string
	// Sympos counts among symbols of one name from 1; 0 if there is only one.
	Sympos   int
	Exported bool
}

// Input is what Generate works on.
type Input struct {
	// Unit is "vmlinux" or the module that the translation unit is part of.
	Unit string
	// Old and New are the two versions, compiled alike.
	Old, New *elfobj.File
	// Sizes of the kernel's structures.
	Sizes Sizes
	// Lines maps line numbers of the old source to the new one; nil if unknown.
	Lines *LineMap
	// OldLines are the source lines of the old version's functions; nil if
	// unknown. Without them no difference passes as one of line numbers.
	OldLines Extents
	// Kernel says where symbols are.
	Kernel Symbols
	// Provided says of global names that the patch adds what this unit means
	// by them.
	Provided map[string]Provided
	// LinkNames are names in the update of this unit's own new globals, and of
	// those in Moved, where they are not the same.
	LinkNames map[string]string
	// LateObjtool is set if objtool has yet to run, on what is linked of the result:
	// what it reads of the objects is carried along then.
	LateObjtool bool
	// NewObject is the file of New, for its DWARF. It may be nil: then changed
	// values are told in fewer words and cannot be written.
	NewObject []byte
	// Data is the author's word on changed initial values.
	Data []DataRule
	// Copies names unchanged functions of which the update is to have a copy of
	// its own, which its other functions call: see CheckNames.
	Copies []string
	// Moved names global functions without ftrace site of which the update has a
	// copy under a name of LinkNames, which all that call them call from now on: in
	// this unit, and in others by Provided.
	Moved []string
	// Stacked is set if the update stands on others.
	Stacked *Stacked
	// AliasPrefix begins the global names given to redirected functions; it
	// has to differ between the units of one update.
	AliasPrefix string
}

// Function is a function of the update.
type Function struct {
	// Name is the shipped function's, or the new one's.
	Name string
	// NewName is what the new version is called.
	NewName string
	// Alias is the global symbol of the new code; empty if New.
	Alias            string
	OldSize, NewSize uint64 // bytes
	// New is set for a function that the old version does not have.
	New    bool
	Global bool
	// ProbeOnly is set if the function runs only when a driver meets a device,
	// InitOnly if only when its module is loaded, or at boot.
	ProbeOnly, InitOnly bool
	// Drivers are the names of the drivers whose devices ProbeOnly is about, if
	// they are known.
	Drivers []string
	// Params are parameters of the module to whose values the function is applied,
	// and nothing else is.
	Params []string
}

// Result is a livepatch object and what is to be known of it.
type Result struct {
	Object *elfobj.File
	// Functions lists redirected functions first, then new ones.
	Functions []Function
	// Data lists variables that are written or kept, on the author's word.
	Data []DataChange
	// Callbacks are the author's, in the order in which they run.
	Callbacks []Callback
	// AlreadyRan lists changed functions whose code has run and is freed.
	AlreadyRan []string
	// Refs counts the relocations against each symbol of the running kernel.
	Refs map[Ref]int
	// Namespaces are the symbol namespaces the update has to import.
	Namespaces []string
	// Escapes says where addresses of new code or data leave the update.
	Escapes []string
	// Review lists points that a person should look at.
	Review []string
	// Concurrency lists what tasks in the old and in the new version may
	// disagree about, as far as the machine code shows it.
	Concurrency []review.Point
	// InForce names shipped functions of which earlier updates have put the
	// version into force that this one was compiled with.
	InForce []string
	// Late lists branches on static keys of modules, which would never be set
	// up. If there are any, the object is not to be used: the unit has to be
	// compiled so that it reads those keys instead.
	Late []*refuse.Error
	// Untraced lists changed global functions that cannot be redirected, and of
	// which this unit takes no address. If there are any, there is no object: all
	// units that call them have to be part of the update, and the functions in Moved.
	Untraced []string
}

// Empty reports that nothing differs that could be carried.
func (r *Result) Empty() bool { return r.Object == nil }

// Acts reports that something happens without any function being redirected:
// variables are written or callbacks called.
func (r *Result) Acts() bool {
	return len(r.Callbacks) > 0 || slices.ContainsFunc(r.Data, func(c DataChange) bool { return c.Action != DataKeep })
}

// Generate compares two versions of a unit and makes the object that takes
// the running kernel from the one to the other. A result without an object
// means that no machine code differs. What cannot be done correctly is a
// *refuse.Error.
func Generate(in Input) (*Result, error) {
	sp := specials(in.Sizes)
	old, new := view(in.Old, sp), view(in.New, sp)
	correlate(old, new)
	asked, err := wishesOf(new)
	if err != nil {
		return nil, err
	}
	if err := asked.mark(old); err != nil {
		return nil, err
	}
	pinRuled(in.Data, old)
	c := &comparer{old: old, new: new, lines: in.Lines, same: map[[2]*item]bool{}}
	if in.OldLines != nil {
		c.extent = in.OldLines.extent
	}
	c.compare()
	p := &plan{old: old, new: new, wishes: asked}
	if in.Stacked != nil {
		if p.stack, err = in.Stacked.differences(&in, old, new, sp); err != nil {
			return nil, err
		}
	}
	if err := p.changes(c, &in); err != nil {
		return nil, err
	}
	if err := p.include(&in, sp); err != nil {
		return nil, err
	}
	if len(p.untraced) > 0 {
		return &Result{Untraced: p.untraced}, nil
	}
	if err := p.check(c, sp); err != nil {
		return nil, err
	}
	if len(p.carried) == 0 && len(p.writes) == 0 {
		return &Result{AlreadyRan: p.alreadyRan, Data: p.kept}, nil
	}
	if err := p.checkInForce(sp); err != nil {
		return nil, err
	}
	res, err := emit(&in, p, sp)
	if err != nil {
		return nil, err
	}
	for _, it := range p.relied() {
		res.InForce = append(res.InForce, it.twin.name)
	}
	res.Review, res.Concurrency = append(p.reviewExports(), asked.review()...), p.concurrency()
	return res, nil
}

// klpPrefix begins the names of symbols that the livepatch core is to
// resolve, until the linked module is converted. The kernel's own form,
// .klp.sym.OBJECT.NAME,POS, does not say on whose behalf a symbol is needed,
// and relocations are grouped by that.
const klpPrefix = ".lupatch.klp."

// KlpSymbol names a reference made on behalf of the patched object owner.
func KlpSymbol(owner string, r Ref) string {
	return fmt.Sprintf("%s%s.%s.%s,%d", klpPrefix, owner, r.Object, r.Symbol, r.Sympos)
}

// ParseKlp takes apart what KlpSymbol made.
func ParseKlp(name string) (r Ref, ok bool) {
	_, r, ok = ParseKlpOwner(name)
	return r, ok
}

// ParseKlpOwner is ParseKlp with the object on whose behalf the symbol is needed.
func ParseKlpOwner(name string) (owner string, r Ref, ok bool) {
	rest, ok := strings.CutPrefix(name, klpPrefix)
	if !ok {
		return "", Ref{}, false
	}
	parts := strings.SplitN(rest, ".", 3)
	if len(parts) != 3 {
		return "", Ref{}, false
	}
	i := strings.LastIndexByte(parts[2], ',')
	if i < 0 {
		return "", Ref{}, false
	}
	pos, err := strconv.Atoi(parts[2][i+1:])
	if err != nil {
		return "", Ref{}, false
	}
	return parts[0], Ref{Object: parts[1], Symbol: parts[2][:i], Sympos: pos}, true
}

// refuseAt puts the place into a refusal that has none.
func refuseAt(err error, at *item) error {
	if e, ok := refuse.As(err); ok && e.Where == "" {
		e.Where = nameOf(at)
	}
	return err
}
