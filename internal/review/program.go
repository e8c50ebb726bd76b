// SPDX-License-Identifier: Apache-2.0

package review

import (
	"slices"
	"strings"
)

// program is one version of the files of a patch.
type program struct {
	list   []*function
	byName map[string][]*function
	words  map[token]bool // that occur in functions
	other  *program
	// wraps are short functions of the files that do nothing but take, or
	// nothing but give back: to call one is the same.
	wraps map[*function]Kind
}

func (p *program) add(path string, src []byte) {
	if p.byName == nil {
		p.byName, p.words = map[string][]*function{}, map[token]bool{}
	}
	for _, f := range functions(path, src) {
		for _, t := range f.tokens {
			p.words[t] = true
		}
		p.list = append(p.list, f)
		p.byName[f.name] = append(p.byName[f.name], f)
	}
}

// in finds a function as a file of the program means it: its own, or a global one.
func (p *program) in(file, name string) *function {
	var global *function
	for _, f := range p.byName[name] {
		if f.file == file {
			return f
		}
		if !f.static || strings.HasSuffix(f.file, ".h") {
			global = f
		}
	}
	return global
}

// twin finds the same function in this version: of several that one file has,
// under conditions, the one of the same count.
func (p *program) twin(f *function) *function {
	nth := 0
	for _, g := range p.other.byName[f.name] {
		if g == f {
			break
		}
		if g.file == f.file {
			nth++
		}
	}
	for _, g := range p.byName[f.name] {
		if g.file == f.file {
			if nth--; nth < 0 {
				return g
			}
		}
	}
	return nil
}

// own reports a function that the other version does not have.
func (p *program) own(f *function) bool { return p.other.in(f.file, f.name) == nil }

// usesOwn reports a function that calls one of those.
func (p *program) usesOwn(f *function) bool {
	for i, t := range f.tokens {
		if !t.word() || i+1 >= len(f.tokens) || f.tokens[i+1] != "(" {
			continue
		}
		if g := p.in(f.file, string(t)); g != nil && g != f && p.own(g) {
			return true
		}
	}
	return false
}

// wrapStatements is how many statements a wrapper may have.
const wrapStatements = 8

func (p *program) finish(other *program) {
	p.other = other
	p.wraps = map[*function]Kind{}
	for _, f := range p.list {
		if kind, ok := wrapper(p.plain(f, nil)); ok {
			p.wraps[f] = kind
		}
	}
}

// wrapper reports the elements of a function that only takes or only gives
// back what one kind is about.
func wrapper(list []element) (kind Kind, ok bool) {
	statements, takes, gives := 0, 0, 0
	for _, e := range list {
		switch {
		case e.label != "":
		case e.kind == "":
			statements++
		case e.kind == Ordering, e.kind == RCU && !strings.Contains(e.name, "read_"), kind != "" && kind != e.kind:
			return "", false
		default:
			kind = e.kind
			if releases(e.name) {
				gives++
			} else {
				takes++
			}
		}
	}
	return kind, kind != "" && statements <= wrapStatements && (takes == 0) != (gives == 0)
}

// releases reports a name that gives back what another takes.
func releases(name string) bool {
	for _, s := range []string{"unlock", "put", "release", "drop", "restore", "enable", "_dec", "_sub", "unref"} {
		if strings.Contains(name, s) {
			return true
		}
	}
	return name == "up" || strings.HasPrefix(name, "up_") || strings.HasPrefix(name, "percpu_up_")
}

// elements is a function as a sequence of primitives and statements, with the
// functions in it that only this version has.
func (p *program) elements(f *function) []element { return p.plain(f, []*function{f}) }

// plain does that for a function called by those on the stack; a nil stack is
// for wrappers, in which nothing is followed.
func (p *program) plain(f *function, stack []*function) (out []element) {
	var text strings.Builder
	end := func() {
		if text.Len() > 0 {
			out = append(out, element{text: text.String()})
		}
		text.Reset()
	}
	t := f.tokens
	alone := -1 // where a primitive ends that a statement began with
	for i := 0; i < len(t); i++ {
		switch {
		case t[i] == "{" || t[i] == "}":
			end()
			continue
		case t[i].word() && text.Len() == 0 && i+2 < len(t) && t[i+1] == ":" && t[i+2] != ":" && t[i] != "default":
			out = append(out, element{label: string(t[i])})
			i++
			continue
		case t[i] == ";":
			if alone == i-1 {
				text.Reset()
			}
			end()
			continue
		case t[i].word() && i+1 < len(t) && t[i+1] == "(":
			args := arguments(t[i+1:])
			if e, ok := p.primitive(f, string(t[i]), args); ok {
				out = append(out, e)
				if text.Len() == 0 {
					alone = i + 2 + len(args)
				}
				break
			}
			// A function's own elements stand before the statement that calls it.
			if g := p.in(f.file, string(t[i])); stack != nil && g != nil && p.own(g) && !slices.Contains(stack, g) {
				out = append(out, p.plain(g, append(slices.Clone(stack), g))...)
				continue // its name is new, whatever stood there before
			}
		}
		text.WriteString(string(t[i]))
		text.WriteByte(' ')
	}
	end()
	return out
}

// primitive is the call of name as an element.
func (p *program) primitive(f *function, name string, args []token) (element, bool) {
	kind, ok := Classify(name)
	if back := counterpart(name); !ok && back != "" && (p.words[back] || p.other != nil && p.other.words[back]) && !never.MatchString(name) {
		kind, ok = Counting, true
	}
	if g := p.in(f.file, name); g != nil && !ok && g != f && !p.own(g) {
		kind, ok = p.wraps[g]
	}
	if !ok {
		return element{}, false
	}
	e := element{kind: kind, name: name}
	switch {
	case (name == "guard" || name == "scoped_guard" || name == "scoped_cond_guard") && len(args) > 0:
		e.name += "(" + string(args[0]) + ")"
		e.text = join(args)
		if strings.Contains(string(args[0]), "rcu") {
			e.kind = RCU
		}
	case kind == Locking:
		e.text = join(args) // another lock is another protocol
	}
	return e, true
}

// counterpart is what gives back a reference that name takes; empty if name does
// not look like it. Most functions called so only look something up, so that the
// files have to know the other too.
func counterpart(name string) token {
	if rest, ok := strings.CutSuffix(name, "_get"); ok {
		return token(rest + "_put")
	}
	if rest, ok := strings.CutPrefix(name, "get_"); ok {
		return token("put_" + rest)
	}
	return ""
}

// arguments are the tokens within the parentheses that t begins with.
func arguments(t []token) []token {
	depth := 0
	for i, x := range t {
		switch x {
		case "(":
			depth++
		case ")":
			if depth--; depth == 0 {
				return t[1:i]
			}
		}
	}
	return nil
}

func join(t []token) string {
	var b strings.Builder
	for _, x := range t {
		b.WriteString(string(x))
	}
	return b.String()
}
