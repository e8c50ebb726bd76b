// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/lupatch/lupatch/bpf"
	"github.com/lupatch/lupatch/internal/doctor"
	"github.com/lupatch/lupatch/internal/manifest"
	"github.com/lupatch/lupatch/internal/sign"
	"github.com/lupatch/lupatch/kpatch"
	"github.com/lupatch/lupatch/kpatch/kpatchtest"
)

// In the scripts lupatch works on the fake kernel in $WORK/host. Only this
// program of the tests knows of it.
const rootVariable = "LUPATCH_TEST_ROOT"

func TestMain(m *testing.M) {
	// Under nohup lupatch would be right to ignore the scripts' SIGHUP.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGHUP)
	testscript.Main(m, map[string]func(){
		"lupatch": func() {
			h := thisHost()
			fake := kpatchtest.New(os.Getenv(rootVariable))
			h.kernel = &kpatch.Kernel{Root: fake.Root, Sys: fake}
			h.doctor = testDoctor(h.kernel)
			h.capture = testCapture(h.kernel)
			h.doctor.Capturing = h.capture.state
			os.Exit(run(h, os.Args))
		},
	})
}

// testDoctor looks at a Debian host that can apply and build; a script takes
// tools away with the variable MISSING.
func testDoctor(k *kpatch.Kernel) *doctor.Host {
	return &doctor.Host{
		Kernel:   k,
		CacheDir: filepath.Join(k.Root, "cache"),
		LookPath: func(name string) (string, error) {
			if name == os.Getenv("MISSING") {
				return "", os.ErrNotExist
			}
			return "/usr/bin/" + name, nil
		},
		Run: func(_ context.Context, name string, args ...string) (string, error) {
			if name == "apt-cache" {
				return " " + args[1] + " | 6.1.170-3 | x\n", nil
			}
			return "gcc-12 (Debian 12.2.0-14+deb12u1) 12.2.0\n", nil
		},
		Capabilities: func() (uint64, error) { return 1<<41 - 1, nil },
		Features:     func() []bpf.Feature { return nil },
		Mounted:      func() (bool, error) { return false, nil },
		PossibleCPUs: func() (int, error) { return 2, nil },
	}
}

// testCapture finds no BPF file system to begin with; what was captured is in the
// file capture.json, if a script has one.
func testCapture(k *kpatch.Kernel) capture {
	file := filepath.Join(k.Root, "capture.json")
	var kept struct {
		State    bpf.Capturing
		Requests []bpf.Request
		Known    []bpf.Known
	}
	b, err := os.ReadFile(file)
	if err == nil {
		err = json.Unmarshal(b, &kept)
	}
	return capture{
		start: func() error { return bpf.ErrNotMounted },
		stop: func(context.Context) error {
			if os.Remove(file) != nil {
				return bpf.ErrNotCapturing
			}
			kept.State = bpf.Capturing{}
			return nil
		},
		state: func() (*bpf.Capturing, error) {
			if err != nil && !errors.Is(err, os.ErrNotExist) {
				return nil, err
			}
			return &kept.State, nil
		},
		read: func() ([]bpf.Request, []bpf.Known, error) {
			if !kept.State.On {
				return nil, nil, bpf.ErrNotCapturing
			}
			return kept.Requests, kept.Known, nil
		},
		follow: func(_ context.Context, f func(bpf.Request)) error {
			for _, r := range kept.Requests {
				f(r)
			}
			return nil
		},
	}
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Setup: func(e *testscript.Env) error {
			root := filepath.Join(e.WorkDir, "host")
			e.Setenv(rootVariable, root)
			// Scripts that are not about probation have no time for it.
			e.Setenv("LUPATCH_PROBATION", "0")
			if err := os.Mkdir(root, 0o755); err != nil {
				return err
			}
			kpatchtest.New(root)
			return os.WriteFile(filepath.Join(root, "proc/version"), []byte("Linux version 6.1.0-47-amd64 (x@y) (gcc-12 (Debian 12.2.0-14+deb12u1) 12.2.0, GNU ld (GNU Binutils for Debian) 2.40) #1 SMP PREEMPT_DYNAMIC Debian 6.1.170-3 (2026-04-01)\n"), 0o644)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"update": makeUpdate,
			"driver": makeDriver,
			"host":   changeHost,
			"code":   exitCode,
			"damage": damage,

			"documented": documented,
		},
	})
}

// exitCode runs a command and compares its exit code: code N CMD ARGS...
func exitCode(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: code N CMD [ARG...]")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	err = ts.Exec(args[1], args[2:]...)
	got := 0
	var exit interface{ ExitCode() int }
	if errors.As(err, &exit) {
		got = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

// makeUpdate writes an update file: update [flags] NAME UNIT FUNCTION...
func makeUpdate(ts *testscript.TestScript, _ bool, args []string) {
	f := flag.NewFlagSet("update", flag.ContinueOnError)
	release := f.String("release", kpatchtest.Release, "")
	needs := f.Int("needs", 0, "")
	on := f.String("on", "", "")
	schema := f.Int("schema", 0, "")
	escape := f.String("escape", "", "")
	review := f.String("review", "", "")
	buildID := f.String("build-id", "", "")
	probe := f.String("probe", "", "")
	signed := f.Bool("signed", false, "")
	ts.Check(f.Parse(args))
	m := kpatchtest.Manifest(f.Arg(0), f.Arg(1), f.Args()[2:]...)
	m.Release, m.Units[0].Needs, m.Units[0].Gives = *release, *needs, *needs+1
	for _, name := range strings.Fields(strings.ReplaceAll(*on, ",", " ")) {
		base := manifest.Base{Update: name, BuildID: kpatchtest.BuildID(name)}
		if file, err := os.ReadFile(ts.MkAbs(name + ".ko")); err == nil {
			base.BuildID, err = kpatch.ImageBuildID(file)
			ts.Check(err)
		}
		m.On = append(m.On, base)
	}
	if *buildID != "" {
		m.Units[0].BuildID = *buildID
	}
	if *probe != "" {
		m.Units[0].Functions[0].Effect, m.Units[0].Functions[0].Drivers = manifest.EffectNextProbe, []string{*probe}
	}
	if *escape != "" {
		m.Escapes = []string{*escape}
	}
	if *review != "" {
		m.Review = []string{*review}
	}
	m.Units[0].Relocations = []manifest.Relocation{{Object: "vmlinux", Symbol: "_printk", Count: 3, Exported: true}, {Object: f.Arg(1), Symbol: "copybreak", Sympos: 2, Count: 1}}
	file := kpatchtest.Module(m)
	if *schema != 0 {
		content, err := manifest.EncodeSection(m)
		ts.Check(err)
		content = []byte(strings.Replace(string(content), fmt.Sprintf(`"schema": %d`, manifest.Schema), fmt.Sprintf(`"schema": %d`, *schema), 1))
		file, err = manifest.Seal(kpatchtest.ELF(m.Name, m.Release, content))
		ts.Check(err)
	}
	if *signed {
		file = kpatchtest.Sign(file)
	}
	ts.Check(os.WriteFile(ts.MkAbs(f.Arg(0)+".ko"), file, 0o600))
}

// makeDriver writes a driver's module, and with -manifest what belongs beside it:
// driver [flags] FILE MODULE
func makeDriver(ts *testscript.TestScript, _ bool, args []string) {
	f := flag.NewFlagSet("driver", flag.ContinueOnError)
	release := f.String("release", kpatchtest.Release, "")
	version := f.String("manifest", "", "")
	salt := f.String("salt", "", "")
	ts.Check(f.Parse(args))
	d := kpatchtest.Driver{Name: f.Arg(1), Release: *release, Salt: *salt, Info: []string{"alias=pci:v00008086d0000100Esv*"}, Imports: map[string]uint32{"alloc_etherdev_mqs": 1}}
	file := ts.MkAbs(f.Arg(0))
	image := d.Image()
	ts.Check(os.WriteFile(file, image, 0o600))
	if *version == "" {
		return
	}
	m, err := manifest.ForDriver(image, time.Unix(1e9, 0))
	ts.Check(err)
	m.Name, m.Source.Version, m.Tools.Lupatch = manifest.DriverName(d.Name, *version), *version, "test"
	m.Units[0].BuildID, m.Units[0].Driver.Private = kpatchtest.BuildID(d.Name), 2480
	text, err := manifest.Encode(m)
	ts.Check(err)
	ts.Check(os.WriteFile(file+manifest.DriverSuffix, text, 0o600))
}

// damage alters a file: damage truncate N FILE, damage flip N FILE (from its end
// if N is negative), damage again 0 FILE.
func damage(ts *testscript.TestScript, _ bool, args []string) {
	n, err := strconv.Atoi(args[1])
	ts.Check(err)
	b, err := os.ReadFile(ts.MkAbs(args[2]))
	ts.Check(err)
	switch args[0] {
	case "truncate":
		b = b[:len(b)-n]
	case "flip":
		if n < 0 {
			n += len(b)
		}
		b[n] ^= 1
	case "again": // append the module signature that it has once more
		body, _, err := sign.Split(b)
		ts.Check(err)
		b = append(b, b[len(body):]...)
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[2]), b, 0o600))
}

// changeHost changes the fake kernel.
func changeHost(ts *testscript.TestScript, _ bool, args []string) {
	k := kpatchtest.New(ts.Getenv(rootVariable))
	switch what, args := args[0], args[1:]; what {
	case "foreign": // NAME OBJECT FUNCTION...
		k.AddForeign(args[0], args[1], args[2:]...)
	case "blocker": // PID COMM FUNCTION...
		pid, err := strconv.Atoi(args[0])
		ts.Check(err)
		k.AddTask(kpatchtest.Task{PID: pid, Comm: args[1], Sticky: true, Stack: append(args[2:], "entry_SYSCALL_64_after_hwframe")})
	case "taint": // FLAGS
		n, err := strconv.ParseUint(args[0], 10, 64)
		ts.Check(err)
		k.Taint(n)
	case "reboot":
		k.Reboot(kpatchtest.Release)
	case "stuck": // PID COMM FUNCTION...
		pid, err := strconv.Atoi(args[0])
		ts.Check(err)
		k.AddTask(kpatchtest.Task{PID: pid, Comm: args[1], Sticky: true, State: 'D', Stack: append(args[2:], "entry_SYSCALL_64_after_hwframe")})
	case "remove": // PID
		ts.Check(os.RemoveAll(filepath.Join(k.Root, "proc", args[0])))
		ts.Check(os.RemoveAll(filepath.Join(k.Root, "fake/sticky", args[0])))
	case "free": // PID
		pid, err := strconv.Atoi(args[0])
		ts.Check(err)
		k.Free(pid)
	case "fail": // ERRNO LINE...
		n, err := strconv.Atoi(args[0])
		ts.Check(err)
		k.FailLoad(syscall.Errno(n), args[1:]...)
	case "enforce": // Y or N
		file := filepath.Join(k.Root, "sys/module/module/parameters/sig_enforce")
		ts.Check(os.MkdirAll(filepath.Dir(file), 0o755))
		ts.Check(os.WriteFile(file, []byte(args[0]+"\n"), 0o644))
	case "lockdown": // MODE
		file := filepath.Join(k.Root, "sys/kernel/security/lockdown")
		ts.Check(os.MkdirAll(filepath.Dir(file), 0o755))
		ts.Check(os.WriteFile(file, []byte("["+args[0]+"]\n"), 0o644))
	case "namespace": // NUMBER
		link := filepath.Join(k.Root, "proc/self/ns/pid")
		ts.Check(os.MkdirAll(filepath.Dir(link), 0o755))
		ts.Check(os.Symlink("pid:["+args[0]+"]", link))
	case "no-livepatch":
		ts.Check(os.RemoveAll(filepath.Join(k.Root, "sys/kernel/livepatch")))
	case "bound": // MODULE DRIVER DEVICE...
		k.Bind(args[0], args[1], args[2:]...)
	case "interface": // DEVICE NAME INDEX FLAGS CARRIER, of a device that is bound
		dir := filepath.Join(k.Root, "sys/devices/pci0000:00", args[0])
		net := filepath.Join(dir, "net", args[1])
		ts.Check(os.MkdirAll(net, 0o755))
		for name, value := range map[string]string{"ifindex": args[2], "flags": args[3], "carrier": args[4]} {
			ts.Check(os.WriteFile(filepath.Join(net, name), []byte(value+"\n"), 0o644))
		}
		ts.Check(os.MkdirAll(filepath.Join(k.Root, "sys/class/net"), 0o755))
		ts.Check(os.Symlink("../../devices/pci0000:00/"+args[0]+"/net/"+args[1], filepath.Join(k.Root, "sys/class/net", args[1])))
		ts.Check(os.Symlink("../..", filepath.Join(net, "device")))
	case "insmod": // FILE
		b, err := os.ReadFile(ts.MkAbs(args[0]))
		ts.Check(err)
		ts.Check(k.InitModule(b, ""))
	default:
		ts.Fatalf("host %s?", what)
	}
}
