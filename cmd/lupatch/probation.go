// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/lupatch/lupatch/probation"
	"github.com/lupatch/lupatch/update"
)

// exitProbation is the exit code of an apply that was taken back for what was seen
// on probation.
const exitProbation = 6

// commands is a flag that may be given several times. Unlike a slice of the library
// it takes commas as they are.
type commands []string

// Set adds a command.
func (l *commands) Set(s string) error {
	if strings.TrimSpace(s) == "" {
		return fmt.Errorf("an empty command")
	}
	*l = append(*l, s)
	return nil
}

// String is for the help.
func (l *commands) String() string { return strings.Join(*l, "; ") }

const (
	probationName = "probation"
	healthName    = "health-check"
	healthLimit   = "health-timeout"
)

func probationFlags() []cli.Flag {
	return []cli.Flag{
		&cli.DurationFlag{Name: probationName, Value: probation.Default, EnvVars: []string{"LUPATCH_PROBATION"}, Usage: "how long (`TIME`) a fault of the kernel in the update still takes it back; 0 turns that off"},
		&cli.GenericFlag{Name: healthName, Value: new(commands), Usage: "a shell `COMMAND` that has to succeed before, on and at the end of probation; may be given several times"},
		&cli.DurationFlag{Name: healthLimit, Value: probation.DefaultHealthTimeout, Usage: "how long (`TIME`) one health check may take"},
	}
}

// probationOptions takes the options of probation from the command line.
func probationOptions(c *cli.Context) (probation.Options, error) {
	opt := probation.Options{For: c.Duration(probationName), HealthTimeout: c.Duration(healthLimit)}
	if l, ok := c.Generic(healthName).(*commands); ok {
		opt.Health = *l
	}
	switch {
	case opt.For < 0:
		return opt, &usageError{"the time of probation cannot be negative", c.Command.Name}
	case opt.HealthTimeout <= 0:
		return opt, &usageError{"the time of a health check has to be positive", c.Command.Name}
	case opt.For == 0 && len(opt.Health) > 0:
		return opt, &usageError{"health checks are made on probation, which is off", c.Command.Name}
	}
	return opt, nil
}

// warnPanics says that nobody will be there to take the update back.
func (h *host) warnPanics(opt probation.Options) {
	if opt.For == 0 {
		return
	}
	if list := h.kernel.PanicSettings(); len(list) > 0 {
		fmt.Fprintln(h.err, panicsInstead(list))
	}
}

func panicsInstead(settings []string) string {
	return fmt.Sprintf("probation cannot help against every fault: with %s this kernel panics instead", strings.Join(settings, ", "))
}

// tellProbation says what was seen although the update has passed.
func tellProbation(w io.Writer, results []update.Result) {
	for _, r := range results {
		if r.Probation == nil {
			continue
		}
		for _, line := range r.Probation.Text() {
			fmt.Fprintf(w, "  %s\n", line)
		}
	}
}

// failedProbation is how a failure looks in JSON.
type failedProbation struct {
	Cause string `json:"cause"`
	*probation.Failure
}

// reportProbation tells why an update was taken back: one line, then the evidence.
func (h *host) reportProbation(f *probation.Failure, asJSON bool) int {
	if asJSON {
		printJSON(h.out, map[string]any{"taken_back": failedProbation{f.Error(), f}})
	}
	fmt.Fprintf(h.err, "lupatch: taken back: %s\n", oneLine(f.Error()))
	h.evidence(f, asJSON)
	return exitProbation
}

// evidence prints the kernel's own lines; with JSON they are in that.
func (h *host) evidence(f *probation.Failure, asJSON bool) {
	if asJSON {
		return
	}
	for _, line := range f.Text() {
		fmt.Fprintln(h.err, line)
	}
}
