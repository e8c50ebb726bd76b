// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"bytes"
	"context"
	"debug/elf"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
)

// class is why the two differs disagree. Which it is follows from what the
// oracle sees of the objects, and from what kpatch's says.
type class string

const (
	classLine        class = "line number"
	classInlinedLine class = "inlined line number"
	classLabel       class = "counted name"
	classAlias       class = "two names"
	classCopy        class = "copy"
	classCaller      class = "caller of a copy"
	classNoSite      class = "no ftrace site"
	classExport      class = "new export"
	classAlreadyRan  class = "already ran"
	classConstants   class = "constants"
	classStaticLocal class = "static local"
	classSymbol      class = "symbol changed kind"
	classByHand      class = "by hand"
	classMissed      class = "unexplained" // whoever is wrong, it is not known
)

// classText says what a class means, in the order of the report.
var classText = []struct {
	class class
	text  string
}{
	{classLine, "Nothing but the number of a source line differs (`__LINE__`). lupatch knows from the patch where lines have moved; create-diff-object recognises some of the messages that pass one on."},
	{classInlinedLine, "The same the other way round: the line is one of a function that was inlined, and lupatch takes it for the function's own constant. The function is replaced without need."},
	{classLabel, "The code is the same, but names in it that the compiler counts (`.LC5`, `descriptor.11`) have moved on; create-diff-object compares some of them by name."},
	{classAlias, "Both mean the same function, by two of its names."},
	{classCopy, "Unchanged and not replaced: others in the update call a copy of it, as they cannot call the original."},
	{classCaller, "Unchanged, but calls a changed function that has no ftrace site and cannot be redirected: lupatch replaces the callers and carries a copy; create-diff-object refuses."},
	{classNoSite, "create-diff-object refuses a changed function without an ftrace site; lupatch replaces its callers and carries a copy, or finds the change to be none."},
	{classExport, "The fix exports a symbol. lupatch leaves the export out and carries the function for the patch's own use; create-diff-object refuses."},
	{classAlreadyRan, "Code that has run and is freed differs too. lupatch says so and carries the rest, if there is any; create-diff-object refuses."},
	{classConstants, "A constant table differs, in its values or size. lupatch carries the new one with the functions that read it; create-diff-object refuses."},
	{classStaticLocal, "create-diff-object cannot tell which static local variable is which, or wants every reference to it to stay; lupatch tells them apart by their users, or has no need to."},
	{classSymbol, "A symbol is undefined, static or global in one version and not so in the other; create-diff-object refuses that."},
	{classByHand, "Looked at one by one: see below."},
	{classMissed, "Not explained."},
}

// dispute is what decides about one function.
type dispute struct {
	ours   bool   // lupatch's differ has it, kpatch's has not
	new    bool   // whoever has it calls it new
	known  bool   // the old object has it
	alias  bool   // the other side has it by another name
	copies bool   // lupatch's carries copies
	equal  bool   // the oracle sees no difference
	number bool   // nor but in immediate operands
	hand   string // explanation written by hand
}

func (d dispute) class() class {
	switch {
	case d.alias:
		return classAlias
	case d.hand != "":
		return classByHand
	case d.ours && d.new && d.known:
		return classCopy
	case d.ours && d.equal && d.copies:
		return classCaller
	case d.ours && d.number && !d.equal:
		return classInlinedLine
	case !d.ours && d.equal:
		return classLabel
	case !d.ours && d.number:
		return classLine
	}
	return classMissed
}

// refusals tell from what create-diff-object says why it made no object. The
// first that fits counts: what is said last is only a number.
var refusals = []struct {
	pattern *regexp.Regexp
	class   class
}{
	{regexp.MustCompile(`has no fentry/mcount call`), classNoSite},
	{regexp.MustCompile(`changed section (__ksymtab|___ksymtab)\S* not selected`), classExport},
	{regexp.MustCompile(`changed section \.(init|exit)\.\S+ not selected`), classAlreadyRan},
	{regexp.MustCompile(`changed section \.rodata\S* not selected`), classConstants},
	{regexp.MustCompile(`object size mismatch`), classConstants},
	{regexp.MustCompile(`static local variable`), classStaticLocal},
	{regexp.MustCompile(`symbol info mismatch`), classSymbol},
}

func refusalClass(says []string) class {
	for _, r := range refusals {
		if slices.ContainsFunc(says, r.pattern.MatchString) {
			return r.class
		}
	}
	return classMissed
}

// readExplained reads explanations: fix, function (empty for a pair of which one
// program made nothing) and text. An empty path has none.
func readExplained(path string) (map[[2]string]string, error) {
	out := map[[2]string]string{}
	if path == "" {
		return out, nil
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	s := bufio.NewScanner(bytes.NewReader(b))
	for n := 1; s.Scan(); n++ {
		if l := s.Text(); l != "" && !strings.HasPrefix(l, "#") {
			c := strings.Split(l, "\t")
			if len(c) != 3 || c[0] == "" || c[2] == "" || strings.Contains(c[2], "; ") {
				return nil, fmt.Errorf("reading %s: line %d is not fix, function and a text without semicolons", path, n)
			}
			out[[2]string{c[0], c[1]}] = c[2]
		}
	}
	return out, s.Err()
}

// aliases gives each function symbol the name of the first at its place.
func aliases(object string) (map[string]string, error) {
	f, err := elf.Open(object)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	syms, err := f.Symbols()
	if err != nil {
		return nil, fmt.Errorf("reading the symbols of %s: %w", object, err)
	}
	first, out := map[[2]uint64]string{}, map[string]string{}
	for _, s := range syms {
		if elf.ST_TYPE(s.Info) != elf.STT_FUNC || s.Section == elf.SHN_UNDEF {
			continue
		}
		at := [2]uint64{uint64(s.Section), s.Value}
		if first[at] == "" {
			first[at] = s.Name
		}
		out[s.Name] = first[at]
	}
	return out, nil
}

// explain says what the two sides disagree about, and why.
func (d *duel) explain(ctx context.Context, before, after string, byHand map[[2]string]string) error {
	d.verdict = verdictOf(d.ours, d.theirs)
	if d.verdict == verdictSame || d.verdict == verdictNothing || d.verdict == verdictNeither {
		return nil
	}
	old, err := disassemble(ctx, before)
	if err != nil {
		return err
	}
	new, err := disassemble(ctx, after)
	if err != nil {
		return err
	}
	d.oracle = oracleOn(d.ours, old, new)
	if d.verdict != verdictDiffer {
		c, hand := refusalClass(d.theirs.says), byHand[[2]string{d.fix, ""}]
		if hand != "" {
			c = classByHand
		}
		d.why = []reason{{c, "", hand}}
		return nil
	}
	same, err := aliases(after)
	if err != nil {
		return err
	}
	copies := slices.ContainsFunc(slices.Collect(maps.Keys(d.ours.new)), func(n string) bool {
		return d.ours.new[n] && old[family(n)] != nil
	})
	for _, n := range symmetric(d.ours.funcs, d.theirs.funcs) {
		mine := slices.Contains(d.ours.funcs, n)
		other, own := d.ours, d.theirs
		if mine {
			other, own = d.theirs, d.ours
		}
		x := dispute{ours: mine, new: own.new[n], copies: copies, hand: byHand[[2]string{d.fix, n}]}
		x.alias = slices.ContainsFunc(other.funcs, func(o string) bool { return o != n && same[o] != "" && same[o] == same[n] })
		a, b := old[family(n)], new[family(n)]
		x.known = a != nil
		if a != nil && b != nil {
			x.equal = slices.Equal(a.lines, b.lines)
			x.number = slices.Equal(a.withoutNumbers(), b.withoutNumbers())
		}
		d.why = append(d.why, reason{x.class(), n, x.hand})
	}
	return nil
}

// symmetric lists what is in one of two lists only.
func symmetric(a, b []string) (out []string) {
	for _, n := range slices.Concat(a, b) {
		if !slices.Contains(a, n) || !slices.Contains(b, n) {
			out = append(out, n)
		}
	}
	return out
}

// oracleOn compares lupatch's result with what the oracle sees in the same
// objects: functions that differ in more than immediate operands and are not
// among the update's.
func oracleOn(s side, old, new map[string]*code) string {
	has := map[string]bool{}
	for _, f := range s.funcs {
		has[family(f)] = true
	}
	var missing []string
	for _, n := range slices.Sorted(maps.Keys(new)) {
		o, ok := old[n]
		if !new[n].discarded && !has[n] && (!ok || !slices.Equal(o.withoutNumbers(), new[n].withoutNumbers())) {
			missing = append(missing, n)
		}
	}
	if len(missing) == 0 {
		return "nothing missing"
	}
	return "missing: " + strings.Join(missing, " ")
}
