// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/urfave/cli/v2"
	"golang.org/x/term"

	"github.com/lupatch/lupatch/internal/lab"
	"github.com/lupatch/lupatch/internal/refuse"
	"github.com/lupatch/lupatch/internal/sign"
)

const labExamples = `EXAMPLES:
   Which kernel is that?
      lupatch lab run --kernel 6.1.0-47-amd64 -- uname -a

   Try an update on a throwaway copy of this machine's kernel, with the card it is for:
      lupatch lab run --nic e1000 --file fix.ko:/root/fix.ko -- lupatch apply /root/fix.ko

   Would a host with Secure Boot take a signed update, if its firmware had the key?
      lupatch lab run --secure-boot --trust ops.der --file fix.ko:/root/fix.ko -- lupatch apply /root/fix.ko

   Look around by hand (Ctrl-] or exit leaves):
      lupatch lab shell --nic virtio-net-pci --module ext4

EXIT STATUS:
   run: that of the command (128 plus the signal that killed it, 124 if it ran into
   --timeout); 1 if the lab host failed or its console shows a fault while the command
   succeeded; 2 if the command line makes no sense; 3 if lupatch declines, for instance
   because there is no such kernel.
`

// Exit statuses of `lab run` beside the command's own.
const (
	labFailed   = 1
	labTimedOut = 124 // as timeout(1)
)

// labCommand is `lupatch lab`: throwaway hosts for users.
func labCommand() *cli.Command {
	return &cli.Command{
		Name:        "lab",
		Usage:       "try things on a throwaway host in QEMU that runs a real distribution kernel",
		Description: "No privilege is needed and nothing of this machine is altered. The default kernel is\nthis machine's own, or the newest one of its Debian release.\n\n" + labExamples,
		Subcommands: []*cli.Command{
			{
				Name:            "run",
				Usage:           "boot a lab host, run a command in it, throw it away",
				ArgsUsage:       "-- COMMAND [ARGUMENT...]",
				Description:     labExamples,
				Flags:           append(labFlags(), labRunFlags()...),
				HideHelpCommand: true,
				Action:          labRun,
			},
			{
				Name:            "shell",
				Usage:           "boot a lab host and give it a shell on this terminal",
				ArgsUsage:       " ",
				Description:     labExamples,
				Flags:           labFlags(),
				HideHelpCommand: true,
				Action:          labShell,
			},
			{
				Name:            "debug-kernel",
				Usage:           "build the kernel that --kernel debug boots: KASAN, lockdep and other checks; once, 10 to 20 minutes",
				ArgsUsage:       " ",
				Description:     "Prints the folder to compile modules against, on standard output.",
				HideHelpCommand: true,
				Action:          labDebugKernel,
			},
		},
	}
}

func labFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "kernel", Usage: "`RELEASE` to boot, such as 6.1.0-47-amd64; debug: see debug-kernel"},
		&cli.StringSliceFlag{Name: "nic", Usage: "add a network card of this `MODEL` (e1000, virtio-net-pci, ...)"},
		&cli.StringSliceFlag{Name: "disk", Usage: "add a disk: `MODEL:IMAGE` (virtio, nvme, ahci, ide)"},
		&cli.StringSliceFlag{Name: "sound", Usage: "add a sound card of this `MODEL` (intel-hda, AC97, ES1370)"},
		&cli.StringSliceFlag{Name: "module", Usage: "load this `MODULE` of the kernel at boot"},
		&cli.StringSliceFlag{Name: "package", Usage: "put the programs of this Debian `PACKAGE` into the guest, such as iproute2"},
		&cli.StringSliceFlag{Name: "file", Usage: "copy a file in: `HOSTFILE:/GUEST/FILE`"},
		&cli.StringSliceFlag{Name: "cmdline", Usage: "add this `WORD` to the kernel's command line"},
		&cli.StringSliceFlag{Name: "trust", Usage: "boot through UEFI firmware that trusts the certificate in this `FILE`, and with it the kernel"},
		&cli.BoolFlag{Name: "secure-boot", Usage: "boot through UEFI firmware with Secure Boot; the kernel then locks itself down"},
		&cli.IntFlag{Name: "memory", DefaultText: fmt.Sprint(lab.DefaultMemory), Usage: "memory in `MiB`"},
		&cli.IntFlag{Name: "cpus", Value: lab.DefaultCPUs, Usage: "`NUMBER` of processors"},
		&cli.BoolFlag{Name: "numa", Usage: "two NUMA nodes, with the network cards on the second one"},
		&cli.BoolFlag{Name: "iommu", Usage: "put the network cards behind an IOMMU"},
		&cli.BoolFlag{Name: "unpacked", Usage: "boot without the kernel's decompressor: sooner under emulation, and without KASLR"},
		&cli.StringFlag{Name: "accel", Usage: "`HOW` to run it: tcg or kvm (default: kvm where it works)"},
		&cli.BoolFlag{Name: "console", Usage: "show the kernel's console on standard error"},
	}
}

func labRunFlags() []cli.Flag {
	return []cli.Flag{
		&cli.DurationFlag{Name: "timeout", Value: lab.DefaultTimeout, Usage: "kill the command after this `TIME`"},
		&cli.BoolFlag{Name: "json", Usage: "print one JSON object instead of the command's output"},
	}
}

// labConfig reads the flags that both subcommands share.
func labConfig(c *cli.Context) (lab.Config, error) {
	conf := lab.Config{
		Release: c.String("kernel"), Memory: c.Int("memory"), CPUs: c.Int("cpus"),
		Accel: lab.Accel(c.String("accel")), Modules: c.StringSlice("module"), Cmdline: c.StringSlice("cmdline"), Progress: labProgress(c.App.ErrWriter),
		Packages: c.StringSlice("package"), NUMA: c.Bool("numa"), IOMMU: c.Bool("iommu"), Unpacked: c.Bool("unpacked"),
	}
	for _, m := range c.StringSlice("nic") {
		conf.NICs = append(conf.NICs, lab.NIC{Model: m})
	}
	for _, m := range c.StringSlice("sound") {
		conf.Sounds = append(conf.Sounds, lab.Sound{Model: m})
	}
	for _, spec := range c.StringSlice("disk") {
		model, image, ok := strings.Cut(spec, ":")
		if !ok {
			return conf, usagef("--disk %q is not of the form MODEL:IMAGE", spec)
		}
		conf.Disks = append(conf.Disks, lab.Disk{Model: model, Image: image})
	}
	for _, spec := range c.StringSlice("file") {
		f, err := lab.ParseFile(spec)
		if err != nil {
			return conf, usagef("--file: %v", err)
		}
		conf.Files = append(conf.Files, f)
	}
	if files := c.StringSlice("trust"); len(files) > 0 || c.Bool("secure-boot") {
		conf.UEFI = &lab.UEFI{SecureBoot: c.Bool("secure-boot")}
		for _, file := range files {
			list, err := sign.ReadCertificates(file)
			if err != nil {
				return conf, err
			}
			for _, cert := range list {
				conf.UEFI.DB = append(conf.UEFI.DB, cert.Raw)
			}
		}
	}
	if c.Bool("console") {
		conf.ConsoleLog = c.App.ErrWriter
	}
	return conf, nil
}

// labProgress says what takes long, once each, if anyone is looking.
func labProgress(w io.Writer) func(stage string, done, total int64) {
	if !labIsTerminal(w) {
		return nil
	}
	last := make(chan string, 1)
	last <- ""
	return func(stage string, _, _ int64) {
		if was := <-last; was != stage {
			fmt.Fprintf(w, "%s ...\n", stage)
		}
		last <- stage
	}
}

// labError shows what a lab host that failed said last, which is more than fits
// into the one line of an error.
func labError(c *cli.Context, err error) error {
	var e *lab.Error
	if !errors.As(err, &e) {
		return err
	}
	fmt.Fprintln(c.App.ErrWriter, e.Tail)
	return fmt.Errorf("%s: %w", e.Doing, e.Err)
}

// labResult is what --json prints.
type labResult struct {
	Kernel  string      `json:"kernel"`
	Accel   string      `json:"accel"`
	Exit    int         `json:"exit"`
	Stdout  string      `json:"stdout"`
	Stderr  string      `json:"stderr"`
	Faults  []lab.Fault `json:"faults"`
	Error   string      `json:"error,omitempty"`
	Refused refuse.ID   `json:"refused,omitempty"`
	Boot    float64     `json:"boot_seconds"`
	Run     float64     `json:"run_seconds"`
}

func labRun(c *cli.Context) error {
	argv := c.Args().Slice()
	if len(argv) == 0 {
		return usagef("no command given: lupatch lab run [options] -- COMMAND")
	}
	conf, err := labConfig(c)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(c.Context, os.Interrupt, syscall.SIGTERM)
	defer stop()
	res := &labResult{Kernel: conf.Release, Faults: []lab.Fault{}}
	code, err := labRunIn(ctx, c, conf, argv, res)
	if c.Bool("json") {
		if err != nil {
			res.Error = err.Error()
			if r, ok := refuse.As(err); ok {
				code, res.Refused = refuse.ExitCode, r.ID
			}
		}
		res.Exit = code
		if err := printJSON(c.App.Writer, res); err != nil {
			return err
		}
		return labExitWith(code)
	}
	if err != nil && code == labTimedOut {
		return cli.Exit("lupatch: "+err.Error(), code)
	}
	if err != nil {
		return labError(c, err)
	}
	return labExitWith(code)
}

// labExitWith ends with a status and without a message.
func labExitWith(code int) error {
	if code == 0 {
		return nil
	}
	return cli.Exit("", code)
}

// labRunIn boots, runs and looks for faults. The code is the command's, or
// labFailed or labTimedOut.
func labRunIn(ctx context.Context, c *cli.Context, conf lab.Config, argv []string, res *labResult) (int, error) {
	h, err := lab.Boot(ctx, conf)
	if err != nil {
		return labFailed, err
	}
	defer h.Close()
	res.Kernel, res.Accel, res.Boot = h.Release, string(h.Accel), h.BootTime.Seconds()

	cmd := lab.Cmd{Argv: argv, Timeout: c.Duration("timeout")}
	if !labIsTerminal(c.App.Reader) {
		cmd.Stdin = c.App.Reader
	}
	if !c.Bool("json") {
		cmd.Stdout, cmd.Stderr = c.App.Writer, c.App.ErrWriter
	}
	begin := time.Now()
	r, err := h.Run(ctx, cmd)
	res.Run = time.Since(begin).Seconds()
	code := labFailed
	if r != nil {
		code, res.Stdout, res.Stderr = r.Code, string(r.Stdout), string(r.Stderr)
	}
	var timeout *lab.TimeoutError
	if errors.As(err, &timeout) {
		code = labTimedOut
	}
	if err == nil {
		// The console may still be on its way: power off to have all of it.
		err = h.Shutdown(ctx)
		if err != nil && code == 0 {
			code = labFailed
		}
	}
	res.Faults = append(res.Faults, h.Faults()...)
	labReportFaults(c, h)
	if len(res.Faults) > 0 && code == 0 {
		code = labFailed
	}
	return code, err
}

func labReportFaults(c *cli.Context, h *lab.Host) {
	if c.Bool("json") {
		return
	}
	for _, f := range h.Faults() {
		fmt.Fprintf(c.App.ErrWriter, "lupatch: the lab host's kernel reports a fault: %s\n", f)
	}
}

func labShell(c *cli.Context) error {
	if c.Args().Present() {
		return usagef("a shell takes no arguments; to run a command use `lupatch lab run`")
	}
	conf, err := labConfig(c)
	if err != nil {
		return err
	}
	// Ctrl-C is for the shell once it runs.
	ctx, stop := signal.NotifyContext(c.Context, os.Interrupt, syscall.SIGTERM)
	defer stop()
	h, err := lab.Boot(ctx, conf)
	if err != nil {
		return labError(c, err)
	}
	defer h.Close()
	fmt.Fprintf(c.App.ErrWriter, "Linux %s, up after %.1f s (%s). Ctrl-] or exit leaves; nothing is kept.\n", h.Release, h.BootTime.Seconds(), h.Accel)
	r, err := h.Attach(ctx, []string{"sh", "-l"}, os.Stdin, os.Stdout)
	fmt.Fprintln(c.App.ErrWriter)
	labReportFaults(c, h)
	if errors.Is(err, lab.ErrEnded) && !errors.Is(err, lab.ErrPanic) {
		return nil // poweroff was typed
	}
	if err != nil {
		return labError(c, err)
	}
	return labExitWith(r.Code)
}

func labIsTerminal(stream any) bool {
	f, ok := stream.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}
