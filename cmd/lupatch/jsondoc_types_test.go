// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// jsonField is one field as encoding/json writes it.
type jsonField struct {
	name     string
	optional bool
	typ      reflect.Type
	// owner and goName are where its comment stands.
	owner  reflect.Type
	goName string
}

// fieldsOf lists the fields of a structure in order, those of embedded ones in their
// place.
func fieldsOf(t reflect.Type) (list []jsonField) {
	for i := range t.NumField() {
		f := t.Field(i)
		tag, rest, _ := strings.Cut(f.Tag.Get("json"), ",")
		ft := f.Type
		if ft.Kind() == reflect.Pointer {
			ft = ft.Elem()
		}
		switch {
		case tag == "-" || !f.IsExported() && !f.Anonymous:
		case f.Anonymous && tag == "" && ft.Kind() == reflect.Struct:
			list = append(list, fieldsOf(ft)...)
		default:
			if tag == "" {
				tag = f.Name
			}
			list = append(list, jsonField{tag, strings.Contains(rest, "omit"), f.Type, t, f.Name})
		}
	}
	return list
}

// docWriter writes tables, and remembers the types that they name.
type docWriter struct {
	t        *testing.T
	b        bytes.Buffer
	comments map[string]*comments // by package path
	seen     map[reflect.Type]bool
	queue    []reflect.Type
}

func (d *docWriter) table(t reflect.Type) {
	d.b.WriteString("| field | type | meaning |\n| --- | --- | --- |\n")
	for _, f := range fieldsOf(t) {
		mark := ""
		if f.optional {
			mark = "?"
		}
		fmt.Fprintf(&d.b, "| `%s`%s | %s | %s |\n", f.name, mark, d.typeName(f.typ), d.meaning(f))
	}
}

func (d *docWriter) section(t reflect.Type) {
	fmt.Fprintf(&d.b, "\n### %s\n", t)
	c := d.of(t)
	if text := c.types[t.Name()]; text != "" {
		fmt.Fprintf(&d.b, "%s\n", text)
	}
	d.b.WriteString("\n")
	d.table(t)
}

var (
	durationType = reflect.TypeFor[time.Duration]()
	timeType     = reflect.TypeFor[time.Time]()
	rawType      = reflect.TypeFor[json.RawMessage]()
)

// typeName says in words what encoding/json makes of a type.
func (d *docWriter) typeName(t reflect.Type) string {
	switch {
	case t == durationType:
		return "nanoseconds"
	case t == timeType:
		return "time"
	case t == rawType || t.Kind() == reflect.Interface:
		return "any"
	}
	switch t.Kind() {
	case reflect.Pointer:
		return d.typeName(t.Elem())
	case reflect.Slice, reflect.Array:
		if t.Elem().Kind() == reflect.Uint8 {
			return "base64"
		}
		return "list of " + d.typeName(t.Elem())
	case reflect.Map:
		return "object: " + d.typeName(t.Elem()) + " by name"
	case reflect.Struct:
		if !d.seen[t] {
			d.seen[t] = true
			d.queue = append(d.queue, t)
		}
		return fmt.Sprintf("[%s](#%s)", t, strings.ToLower(strings.ReplaceAll(t.String(), ".", "")))
	case reflect.String:
		if t.PkgPath() == "" {
			return "string"
		}
		if values := d.of(t).values[t.Name()]; len(values) > 0 && len(values) < 30 {
			return "one of `" + strings.Join(values, "`, `") + "`"
		}
		return "string"
	case reflect.Bool:
		return "boolean"
	case reflect.Float32, reflect.Float64:
		return "number"
	}
	if strings.HasPrefix(t.Kind().String(), "int") || strings.HasPrefix(t.Kind().String(), "uint") {
		return "integer"
	}
	d.t.Fatalf("no word for %s", t)
	return ""
}

// meaning is the comment of a field: its own, or one before it that names it. The
// names in it become those of the JSON.
func (d *docWriter) meaning(f jsonField) string {
	text := d.of(f.owner).fields[f.owner.Name()+"."+f.goName]
	for _, sibling := range fieldsOf(f.owner) {
		text = regexp.MustCompile(`\b`+sibling.goName+`\b`).ReplaceAllString(text, "`"+sibling.name+"`")
	}
	return text
}

// comments are those of one package, by the names of types ("T"), fields ("T.F"), and
// the constants of types. Types without a name are those of the table of answers.
type comments struct {
	types, fields map[string]string
	values        map[string][]string
}

func (d *docWriter) of(t reflect.Type) *comments {
	path := t.PkgPath()
	if t.Name() == "" || path == "" || path == "main" {
		path = "github.com/lupatch/lupatch/cmd/lupatch"
	}
	if c := d.comments[path]; c != nil {
		return c
	}
	c := &comments{map[string]string{}, map[string]string{}, map[string][]string{}}
	d.comments[path] = c
	rel, ok := strings.CutPrefix(path, "github.com/lupatch/lupatch/")
	if !ok {
		return c
	}
	files, err := filepath.Glob(filepath.Join("..", "..", rel, "*.go"))
	if err != nil || len(files) == 0 {
		d.t.Fatal(rel, err)
	}
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") && filepath.Base(file) != "jsondoc_test.go" {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ParseComments)
		if err != nil {
			d.t.Fatal(err)
		}
		c.read(f)
	}
	return c
}

func (c *comments) read(f *ast.File) {
	ast.Inspect(f, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.GenDecl:
			for _, s := range n.Specs {
				switch s := s.(type) {
				case *ast.TypeSpec:
					doc := s.Doc
					if doc == nil {
						doc = n.Doc
					}
					c.types[s.Name.Name] = sentence(doc)
					if st, ok := s.Type.(*ast.StructType); ok {
						c.structure(s.Name.Name, st)
						return true
					}
				case *ast.ValueSpec:
					c.constants(n.Tok, s)
				}
			}
		case *ast.CompositeLit:
			// A shape that is written down where it is used.
			if st, ok := n.Type.(*ast.StructType); ok {
				c.structure("", st)
			}
		}
		return true
	})
}

func (c *comments) structure(name string, st *ast.StructType) {
	group, groupNames := "", ""
	for _, f := range st.Fields.List {
		text := sentence(f.Doc)
		if text == "" {
			text = sentence(f.Comment)
		}
		for _, n := range f.Names {
			own := text
			if own == "" && regexp.MustCompile(`\b`+n.Name+`\b`).MatchString(groupNames) {
				own = group
			}
			if key := name + "." + n.Name; own != "" && c.fields[key] == "" {
				c.fields[key] = own
			}
		}
		if text != "" {
			group, groupNames = text, text
		}
	}
}

// constants notes the values of string constants by their types.
func (c *comments) constants(tok token.Token, s *ast.ValueSpec) {
	id, ok := s.Type.(*ast.Ident)
	if tok != token.CONST || !ok {
		return
	}
	for _, v := range s.Values {
		if lit, ok := v.(*ast.BasicLit); ok && lit.Kind == token.STRING {
			if value := strings.Trim(lit.Value, "`\""); value != "" && !slices.Contains(c.values[id.Name], value) {
				c.values[id.Name] = append(c.values[id.Name], value)
			}
		}
	}
}

// sentence makes one line of a comment that fits a table.
func sentence(g *ast.CommentGroup) string {
	if g == nil {
		return ""
	}
	return strings.ReplaceAll(strings.Join(strings.Fields(g.Text()), " "), "|", `\|`)
}
