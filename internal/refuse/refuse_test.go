// SPDX-License-Identifier: Apache-2.0

package refuse

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"regexp"
	"strconv"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestDocumentation(t *testing.T) {
	got, err := os.ReadFile("../../docs/refusals.md")
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(Markdown(), string(got)); d != "" {
		t.Fatalf("docs/refusals.md is not up to date, run `go generate ./internal/refuse`:\n%s", d)
	}
}

// Every identifier that is declared is documented once, and nothing else is.
func TestTable(t *testing.T) {
	declared := map[ID]bool{}
	for _, file := range []string{"table.go", "driver.go"} {
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(f, func(n ast.Node) bool {
			if v, ok := n.(*ast.ValueSpec); ok && v.Type != nil && fmt.Sprint(v.Type) == "ID" {
				s, _ := strconv.Unquote(v.Values[0].(*ast.BasicLit).Value)
				declared[ID(s)] = true
			}
			return true
		})
	}
	if len(declared) < 50 {
		t.Fatalf("only %d identifiers found", len(declared))
	}
	seen := map[ID]bool{}
	for _, e := range Table {
		if seen[e.ID] || !declared[e.ID] {
			t.Errorf("%s is documented twice or not declared", e.ID)
		}
		seen[e.ID] = true
		if e.Cause == "" || e.Remedy == "" || !regexp.MustCompile(`^[a-z]+(-[a-z]+)*$`).MatchString(string(e.ID)) {
			t.Errorf("%+v is not complete", e)
		}
	}
	for id := range declared {
		if !seen[id] {
			t.Errorf("%s is not documented", id)
		}
	}
}

func TestError(t *testing.T) {
	e := New(WrongRelease, "fix", "it is for %s", "6.1")
	if e.Error() != "wrong-kernel-release: fix: it is for 6.1" || e.Advice() != Describe(WrongRelease).Remedy {
		t.Error(e, e.Advice())
	}
	e.Remedy = "do that"
	if got, ok := As(fmt.Errorf("applying: %w", e)); !ok || got.Advice() != "do that" {
		t.Error(got, ok)
	}
	if _, ok := As(os.ErrNotExist); ok {
		t.Error("any error is a refusal")
	}
	defer func() {
		if recover() == nil {
			t.Error("an undocumented refusal was made")
		}
	}()
	New("made-up", "", "")
}
