// SPDX-License-Identifier: Apache-2.0

package compat

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/lupatch/lupatch/internal/kmodule"
	"github.com/lupatch/lupatch/internal/refuse"
	"github.com/lupatch/lupatch/kpatch"
)

// Param is a parameter of a module.
type Param struct {
	Name, Value string
	// Set is where it is given a value for every load: a file of modprobe.d, or the
	// kernel's command line. It is empty for one that is known by sysfs alone, which
	// may have its default.
	Set string
}

// readParams lists the parameters of a module in force: those in sysfs, with the
// values they have now, and of the others those that modprobe would give.
func readParams(k *kpatch.Kernel, module string) (out []Param, err error) {
	given, err := configured(k, module)
	if err != nil {
		return nil, err
	}
	dir := k.Path("/sys/module", module, "parameters")
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("reading the parameters of %s: %w", module, err)
	}
	for _, e := range entries {
		b, err := os.ReadFile(filepath.Join(dir, e.Name()))
		// "(null)" is a text that was never set.
		value := strings.TrimSuffix(string(b), "\n")
		if err != nil || value == "(null)" {
			continue
		}
		p := Param{Name: e.Name(), Value: value}
		if i := slices.IndexFunc(given, func(g Param) bool { return g.Name == p.Name }); i >= 0 {
			p.Set = given[i].Set
		}
		out = append(out, p)
	}
	for _, g := range given {
		if !slices.ContainsFunc(out, func(p Param) bool { return p.Name == g.Name }) {
			out = append(out, g)
		}
	}
	return out, nil
}

// configFolders are those of modprobe.d(5); a file of an earlier one hides those of
// the same name in later ones.
var configFolders = []string{"/etc/modprobe.d", "/run/modprobe.d", "/usr/local/lib/modprobe.d", "/usr/lib/modprobe.d", "/lib/modprobe.d"}

// configured reads what modprobe gives a module: lines "options MODULE NAME=VALUE…",
// then words MODULE.NAME=VALUE of the kernel's command line. The last one counts.
func configured(k *kpatch.Kernel, module string) (out []Param, err error) {
	set := func(word, where string) {
		name, value, _ := strings.Cut(word, "=")
		name = kmodule.CanonicalName(name)
		out = slices.DeleteFunc(out, func(p Param) bool { return p.Name == name })
		out = append(out, Param{name, strings.Trim(value, `"`), where})
	}
	files := map[string]string{}
	for _, dir := range configFolders {
		entries, err := os.ReadDir(k.Path(dir))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("reading options of modules: %w", err)
		}
		for _, e := range entries {
			if strings.HasSuffix(e.Name(), ".conf") && files[e.Name()] == "" {
				files[e.Name()] = k.Path(dir, e.Name())
			}
		}
	}
	var names []string
	for n := range files {
		names = append(names, n)
	}
	slices.Sort(names)
	for _, n := range names {
		text, err := os.ReadFile(files[n])
		if err != nil {
			return nil, fmt.Errorf("reading options of modules: %w", err)
		}
		for line := range strings.Lines(strings.ReplaceAll(string(text), "\\\n", " ")) {
			w := words(line)
			if len(w) > 2 && w[0] == "options" && kmodule.CanonicalName(w[1]) == module {
				for _, o := range w[2:] {
					set(o, files[n])
				}
			}
		}
	}
	cmdline, err := os.ReadFile(k.Path("/proc/cmdline"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("reading the kernel's command line: %w", err)
	}
	for _, w := range words(string(cmdline)) {
		w = strings.TrimPrefix(w, `"`) // quotes may be around all of it
		name, _, _ := strings.Cut(w, ".")
		if o, ok := strings.CutPrefix(w, name+"."); ok && kmodule.CanonicalName(name) == module {
			set(o, "the kernel's command line")
		}
	}
	return out, nil
}

// words splits a line at blanks that are not in double quotes.
func words(line string) []string {
	quoted := false
	return strings.FieldsFunc(line, func(r rune) bool {
		if r == '"' {
			quoted = !quoted
		}
		return !quoted && (r == ' ' || r == '\t' || r == '\n')
	})
}

// checkParams sees whether the parameters in force are still there. One with which
// nobody has ever bothered may go.
func checkParams(l *findings, new *Image, t *Target) {
	for _, p := range t.Params {
		switch {
		case slices.Contains(new.Info.Params, p.Name):
		case p.Set != "":
			l.refuse(refuse.DriverIncompatible, p.Name, "the new driver has no such parameter, and it is set to %q by %s", p.Value, p.Set)
		default:
			l.note(p.Name, "the new driver has no such parameter, which now is %q", p.Value)
		}
	}
}

// ParamString gives the parameters in force as init_module(2) takes them, those only
// that the new driver has. The kernel reads double quotes around a value with blanks
// (kernel/params.c, next_arg); a value with a double quote in it cannot be given.
func (t *Target) ParamString(new *Image) string {
	var out []string
	for _, p := range t.Params {
		if !slices.Contains(new.Info.Params, p.Name) || strings.Contains(p.Value, `"`) {
			continue
		}
		if strings.ContainsAny(p.Value, " \t") {
			out = append(out, p.Name+`="`+p.Value+`"`)
		} else {
			out = append(out, p.Name+"="+p.Value)
		}
	}
	return strings.Join(out, " ")
}
