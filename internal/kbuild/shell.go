// SPDX-License-Identifier: Apache-2.0

package kbuild

import (
	"fmt"
	"slices"
	"strings"

	"mvdan.cc/sh/v3/expand"
	"mvdan.cc/sh/v3/syntax"
)

// shellCommands splits shell text into its commands' words. Only a sequence of
// plain commands is understood: no variables, no redirections, no pipes.
func shellCommands(text string) ([][]string, error) {
	f, err := syntax.NewParser(syntax.Variant(syntax.LangPOSIX)).Parse(strings.NewReader(text), "")
	if err != nil {
		return nil, err
	}
	cfg := &expand.Config{NoUnset: true}
	var out [][]string
	for _, s := range f.Stmts {
		call, ok := s.Cmd.(*syntax.CallExpr)
		if !ok || len(s.Redirs) > 0 || s.Negated || s.Background || len(call.Assigns) > 0 || len(call.Args) == 0 {
			return nil, fmt.Errorf("%q is not a plain command", text[s.Pos().Offset():s.End().Offset()])
		}
		words, err := expand.Fields(cfg, call.Args...)
		if err != nil {
			return nil, err
		}
		out = append(out, words)
	}
	return out, nil
}

// isCompile says whether the words compile one C file into an object, in the
// form that kbuild uses: CC FLAGS… -c -o OBJECT SOURCE.
func isCompile(c []string) bool {
	n := len(c)
	return n > 4 && strings.HasSuffix(c[n-1], ".c") && c[n-3] == "-o" && slices.Contains(c, "-c")
}
