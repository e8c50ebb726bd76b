// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/lupatch/lupatch/internal/refuse"
	"github.com/lupatch/lupatch/probation"
	"github.com/lupatch/lupatch/update"
)

// The exit codes; refuse.ExitCode is the third, refuse.ReversedCode the fourth.
const (
	exitOK         = 0
	exitFailure    = 1
	exitUsage      = 2
	exitUnfinished = 5
)

// jsonKey is where a command leaves whether --json was given.
const jsonKey = "json"

// usageError is a command line that makes no sense.
type usageError struct{ text, command string }

func (e *usageError) Error() string { return e.text }

func usagef(format string, args ...any) error {
	return &usageError{text: fmt.Sprintf(format, args...)}
}

// quietError ends a command whose output said everything: exit code 1, no
// message.
type quietError struct{}

func (quietError) Error() string { return "" }

// refusal is how a refusal looks in JSON.
type refusal struct {
	ID     refuse.ID `json:"id"`
	Where  string    `json:"where,omitempty"`
	Detail string    `json:"detail"`
	Remedy string    `json:"remedy"`
	Help   string    `json:"help,omitempty"`
}

// report tells the user how a command ended and gives the exit code. A refusal
// within a change that could not be undone is no refusal. After
// this nothing is printed any more, so errors of writing have nowhere to go.
func (h *host) report(app *cli.App, err error) int {
	asJSON, _ := app.Metadata[jsonKey].(bool)
	var own cli.ExitCoder
	switch e := err.(type) {
	case nil:
		return exitOK
	case quietError:
		return exitFailure
	case *usageError:
		help := "lupatch --help"
		if e.command != "" && e.command != app.Name {
			help = "lupatch " + e.command + " --help"
		}
		fmt.Fprintf(h.err, "lupatch: %s\nsee: %s\n", e.text, help)
		return exitUsage
	}
	var half *update.UndoError
	if errors.As(err, &half) {
		return h.reportUnfinished(half, asJSON)
	}
	if f, ok := probation.Of(err); ok {
		return h.reportProbation(f, asJSON)
	}
	if e, ok := refuse.As(err); ok {
		if asJSON {
			printJSON(h.out, map[string]any{"refused": refusal{e.ID, e.Where, e.Detail, e.Advice(), e.Help}})
		}
		sentence := e.Detail
		if e.Where != "" {
			sentence = e.Where + ": " + sentence
		}
		verb := "refused"
		if e.Code() == refuse.ReversedCode {
			verb = "taken back"
		}
		fmt.Fprintf(h.err, "lupatch: %s (%s): %s\nremedy: %s\n", verb, e.ID, oneLine(sentence), oneLine(e.Advice()))
		if e.Help != "" {
			fmt.Fprintf(h.err, "\n%s\n", strings.TrimRight(e.Help, "\n"))
		}
		return e.Code()
	}
	if errors.As(err, &own) {
		// A command with exit codes of its own: lab run has those of what it ran.
		if text := own.Error(); text != "" {
			fmt.Fprintln(h.err, oneLine(text))
		}
		return own.ExitCode()
	}
	if asJSON {
		printJSON(h.out, map[string]any{"error": err.Error()})
	}
	fmt.Fprintf(h.err, "lupatch: failed: %s\n", oneLine(err.Error()))
	return exitFailure
}

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }

func printJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}
