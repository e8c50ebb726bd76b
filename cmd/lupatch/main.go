// SPDX-License-Identifier: Apache-2.0

// Command lupatch builds livepatches from source patches, applies them to the
// running kernel and takes them back.
package main

import (
	"context"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/sirupsen/logrus"
	"github.com/urfave/cli/v2"
	"golang.org/x/term"

	"github.com/lupatch/lupatch/internal/doctor"
	"github.com/lupatch/lupatch/internal/lab"
	"github.com/lupatch/lupatch/kpatch"
	"github.com/lupatch/lupatch/update"
)

// version is set when a release is linked.
var version = "devel"

func main() {
	// First of all: this program is also what runs inside a lab host.
	lab.RunIfGuest()
	os.Exit(run(thisHost(), os.Args))
}

// host is what the commands work on and talk to.
type host struct {
	kernel *kpatch.Kernel
	doctor *doctor.Host
	// capture is that of the running kernel.
	capture capture

	in          io.Reader
	out, err    io.Writer
	inTerminal  bool
	errTerminal bool
}

func thisHost() *host {
	k := kpatch.Running()
	return &host{kernel: k, doctor: doctor.This(k), capture: captureOfKernel, in: os.Stdin, out: os.Stdout, err: os.Stderr,
		inTerminal: term.IsTerminal(int(os.Stdin.Fd())), errTerminal: term.IsTerminal(int(os.Stderr.Fd()))}
}

func (h *host) update() *update.Host { return update.NewHost(h.kernel) }

// run carries out one command line and gives the exit code.
func run(h *host, args []string) int {
	// The first signal ends a transaction in order, a second one the program.
	signals := []os.Signal{os.Interrupt, syscall.SIGTERM}
	// A connection that breaks off is one of them, unless the user said otherwise
	// (nohup): notification would undo that.
	if !signal.Ignored(syscall.SIGHUP) {
		signals = append(signals, syscall.SIGHUP)
	}
	ctx, stop := signal.NotifyContext(context.Background(), signals...)
	defer stop()
	context.AfterFunc(ctx, stop)
	app := newApp(h)
	return h.report(app, app.RunContext(ctx, permute(app, args)))
}

const description = `lupatch replaces functions of the running Linux kernel and its modules by fixed
ones, without a reboot, and takes them back.

Exit codes, the same for every command:
   0  done
   1  failed: something went wrong that is not a refusal
   2  usage: the command line makes no sense
   3  refused: lupatch understood and will not do it; the message has an
      identifier, the reason and a remedy (docs/refusals.md)
   4  taken back: tasks kept using what was to be replaced until the deadline
   5  unfinished: taking a change back waits for tasks, or was not possible yet;
      ` + "`lupatch recover`" + ` ends it
   6  taken back: the update did not pass its probation

Examples:
   lupatch doctor                     can this host build and apply updates?
   lupatch build fix.patch            make fix.ko for the running kernel
   lupatch inspect fix.ko             what is in it?
   lupatch plan fix.ko                what would applying it meet here?
   lupatch apply fix.ko               put it into the kernel
   lupatch status                     what is in the kernel?
   lupatch rollback                   take the newest update back`

func newApp(h *host) *cli.App {
	app := &cli.App{
		Name:            "lupatch",
		Usage:           "livepatches for Linux: build, apply, take back",
		Description:     description,
		Version:         version,
		Reader:          h.in,
		Writer:          h.out,
		ErrWriter:       h.err,
		HideHelpCommand: true,
		Metadata:        map[string]any{},
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "debug", Usage: "log what is done to standard error"},
		},
		Before: func(c *cli.Context) error {
			logrus.SetOutput(h.err)
			logrus.SetLevel(logrus.WarnLevel)
			if c.Bool("debug") {
				logrus.SetLevel(logrus.DebugLevel)
			}
			return nil
		},
		Action: func(c *cli.Context) error {
			if c.Args().Present() {
				return usagef("there is no command %q", c.Args().First())
			}
			return cli.ShowAppHelp(c)
		},
		// Errors are reported, and exit codes chosen, in report alone.
		ExitErrHandler: func(*cli.Context, error) {},
		OnUsageError:   onUsageError,
		Commands:       h.commands(),
	}
	prepare(app.Commands, app)
	return app
}

// commands lists the verbs in the order of the help.
func (h *host) commands() []*cli.Command {
	return []*cli.Command{
		h.buildCommand(),
		h.inspectCommand(),
		h.signCommand(),
		h.verifyCommand(),
		h.planCommand(),
		h.applyCommand(),
		h.statusCommand(),
		h.rollbackCommand(),
		h.recoverCommand(),
		h.instancesCommand(),
		h.watchCommand(),
		h.doctorCommand(),
		h.shadowCommand(),
		labCommand(),
		h.guardCommand(),
	}
}

// prepare gives every command what all have in common.
func prepare(commands []*cli.Command, app *cli.App) {
	for _, c := range commands {
		c.OnUsageError = onUsageError
		c.HideHelpCommand = true
		before := c.Before
		c.Before = func(ctx *cli.Context) error {
			app.Metadata[jsonKey] = ctx.Bool("json")
			if before != nil {
				return before(ctx)
			}
			return nil
		}
		prepare(c.Subcommands, app)
	}
}

func onUsageError(c *cli.Context, err error, _ bool) error {
	return &usageError{text: err.Error(), command: c.Command.Name}
}

var jsonFlag = &cli.BoolFlag{Name: "json", Usage: "print one JSON object to standard output"}
