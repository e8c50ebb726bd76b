// SPDX-License-Identifier: Apache-2.0

package build

import (
	"fmt"
	"slices"
	"strings"

	"github.com/lupatch/lupatch/internal/manifest"
	"github.com/lupatch/lupatch/internal/refuse"
	"github.com/lupatch/lupatch/patchgen"
)

// DataRule is a patchgen.DataRule for one file, or for all if File is empty.
type DataRule struct {
	// File is the end of a source file's path.
	File string
	patchgen.DataRule
}

// ParseDataRule reads "[FILE:][VAR=]ACTION", where ACTION is write@pre,
// write@post or keep. Without VAR it is for every variable that no other rule
// names.
func ParseDataRule(s string) (r DataRule, err error) {
	name, action, ok := strings.Cut(s, "=")
	if !ok {
		name, action = "", s
	}
	if file, rest, hasFile := strings.Cut(name, ":"); hasFile {
		r.File, name = file, rest
	}
	r.Name, r.Action = name, patchgen.DataAction(action)
	if !slices.Contains(patchgen.DataActions, r.Action) || ok && name == "" || strings.Contains(s, ":") && r.File == "" {
		return r, fmt.Errorf("%q is not VAR=write@pre, VAR=write@post or VAR=keep", s)
	}
	return r, nil
}

// matches reports whether the rule is for a source file.
func (r DataRule) matches(source string) bool {
	return r.File == "" || source == r.File || strings.HasSuffix(source, "/"+r.File)
}

// rulesFor lists the rules for a unit.
func (j *job) rulesFor(u *unit) (out []patchgen.DataRule) {
	for _, r := range j.opt.Data {
		if r.matches(u.tu.Source) {
			out = append(out, r.DataRule)
		}
	}
	return out
}

// unusedRule refuses a rule for a variable that does not change: the author
// has another one in mind.
func (j *job) unusedRule(units []*unit) error {
	for _, r := range j.opt.Data {
		used := r.Name == ""
		for _, u := range units {
			used = used || r.matches(u.tu.Source) && slices.ContainsFunc(u.result.Data, func(c patchgen.DataChange) bool { return c.Name == r.Name })
		}
		if !used {
			e := refuse.New(refuse.DataWrite, r.Name, "--data names this variable, but the patch does not change its initial value")
			e.Remedy = "check the name; variables of functions are named without the function"
			return e
		}
	}
	return nil
}

// checkTemplate: the fixed part of the update needs symbols of vmlinux, too,
// if it writes read-only variables or such of modules.
func (j *job) checkTemplate(units []unitObject) error {
	needs := templateNeeds(units)
	if slices.Contains(needs, "text_poke") && j.tree.Config["CONFIG_PREEMPT_RT"] == "y" {
		return refuse.New(refuse.DataWrite, "text_poke", "read-only variables cannot be written on a real-time kernel: its locks may sleep where all processors have to stand still")
	}
	for _, name := range needs {
		if n := len(j.syms.Lookup(name)); n != 1 {
			return refuse.New(refuse.DataWrite, name, "writing the variable needs this function of the kernel, of which there are %d", n)
		}
	}
	return nil
}

// add takes over what the template is to do besides redirecting functions.
func (u *unitObject) add(r *patchgen.Result) {
	if len(r.Callbacks) > 0 {
		u.callbacks = append(u.callbacks, r.Callbacks)
	}
	for _, c := range r.Data {
		if c.Action != patchgen.DataKeep {
			u.writes = append(u.writes, c)
		}
	}
}

// addData describes variables and callbacks of a file.
func addData(mu *manifest.Unit, u *unit) {
	for _, c := range u.result.Data {
		mu.Data = append(mu.Data, manifest.Data{Name: c.Name, File: u.tu.Source, Action: string(c.Action), Param: c.Param, Changes: c.What})
	}
	for _, c := range u.result.Callbacks {
		mu.Callbacks = append(mu.Callbacks, manifest.Callback{Kind: c.Kind, Function: c.Name, File: u.tu.Source})
	}
}

// keptValues says what the running kernel keeps otherwise than the patch has it.
func keptValues(u *unit) (out []string) {
	for _, c := range u.result.Data {
		if c.Action == patchgen.DataKeep {
			out = append(out, fmt.Sprintf("%s keeps its running value (%s)", c.Name, strings.Join(c.What, ", ")))
		}
	}
	return out
}
