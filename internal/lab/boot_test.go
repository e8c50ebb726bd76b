// SPDX-License-Identifier: Apache-2.0

package lab_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/lupatch/lupatch/internal/lab"
	"github.com/lupatch/lupatch/internal/lab/labtest"
)

// TestLabBoot boots the real kernel once and goes through everything that a
// healthy host offers.
func TestLabBoot(t *testing.T) {
	t.Parallel()
	h := labtest.Boot(t, lab.Config{
		NICs:  []lab.NIC{{Model: "e1000"}},
		Files: []lab.File{{Path: "/root/note", Data: []byte("hello"), Mode: 0o600}},
	})
	ctx := labtest.Context(t)
	step := func(name string, f func(*testing.T, context.Context, *lab.Host)) {
		t.Run(name, func(t *testing.T) { f(t, ctx, h) })
	}
	step("kernel", testKernel)
	step("commands", testCommands)
	step("background", testBackground)
	step("timeout", testTimeout)
	step("terminal", testTerminal)
	step("files", testFiles)
	step("modules", testModules)
	step("stream", testStream)
	step("stream over a driver reload", testStreamReload)
	if err := h.Shutdown(ctx); err != nil {
		t.Fatalf("shutdown: %v", err)
	}
	if unix.Kill(h.PID(), 0) == nil {
		t.Error("QEMU is still there")
	}
	if !strings.Contains(h.Console(), "Power down") {
		t.Error("the kernel did not power down by itself")
	}
	if _, err := h.Exec(ctx, "true"); !errors.Is(err, lab.ErrEnded) {
		t.Errorf("after the end: %v", err)
	}
}

func testKernel(t *testing.T, ctx context.Context, h *lab.Host) {
	if got := labtest.Sh(t, h, "uname -r"); got != labtest.Release || h.Release != labtest.Release {
		t.Errorf("uname %q, hello %q", got, h.Release)
	}
	if got := labtest.Sh(t, h, "nproc"); got != fmt.Sprint(lab.DefaultCPUs) {
		t.Errorf("%s processors", got)
	}
	if got := labtest.Sh(t, h, "cat /root/note; stat -c %a /root/note"); got != "hello600" {
		t.Errorf("file from the configuration: %q", got)
	}
	for _, dir := range []string{"/proc/self", "/sys/kernel/livepatch", "/sys/kernel/debug/tracing", "/sys/kernel/tracing/available_filter_functions", "/dev/pts", "/sys/fs/cgroup/cgroup.procs"} {
		labtest.Sh(t, h, "test -e "+dir)
	}
	if !strings.Contains(h.Console(), "Linux version "+labtest.Release) {
		t.Error("the console was not recorded")
	}
	if h.Accel == lab.TCG && h.BootTime > 60*time.Second {
		t.Errorf("boot took %v", h.BootTime)
	}
}

func testCommands(t *testing.T, ctx context.Context, h *lab.Host) {
	r, err := h.Run(ctx, lab.Cmd{
		Argv: []string{"sh", "-c", "cat; echo $X $PWD; echo problem >&2; exit 7"}, Env: []string{"X=y z"}, Dir: "/etc",
		Stdin: strings.NewReader("in\x00put\n"),
	})
	if err != nil || r.Code != 7 || string(r.Stdout) != "in\x00put\ny z /etc\n" || string(r.Stderr) != "problem\n" {
		t.Errorf("%+v, %v", r, err)
	}
	if r, err := h.Sh(ctx, "kill -SEGV $$"); err != nil || r.Code != 128+11 || r.Signal != 11 {
		t.Errorf("signal: %+v, %v", r, err)
	}
	var remote *lab.RemoteError
	if _, err := h.Exec(ctx, "/no/such/program"); !errors.As(err, &remote) || !errors.Is(err, unix.ENOENT) {
		t.Errorf("missing program: %v", err)
	}
	if _, err := h.Run(ctx, lab.Cmd{}); err == nil {
		t.Error("an empty command was accepted")
	}
	// Much output, and much input at once.
	big := random(600_000)
	begin := time.Now()
	r, err = h.Run(ctx, lab.Cmd{Argv: []string{"cat"}, Stdin: bytes.NewReader(big)})
	if err != nil || !bytes.Equal(r.Stdout, big) {
		t.Errorf("cat of %d bytes gave %d, %v", len(big), len(r.Stdout), err)
	}
	t.Logf("600 kB through cat in %v", time.Since(begin).Round(time.Millisecond))
	// Orphans are collected.
	labtest.Sh(t, h, "(sleep 0.2 &) ; sleep 1; ! ps -o stat | grep -q Z")
}

func testBackground(t *testing.T, ctx context.Context, h *lab.Host) {
	pr, pw := newLinePipe()
	p, err := h.Start(ctx, lab.Cmd{Argv: []string{"sh", "-c", "echo up; sleep 1000 & wait"}, Stdout: pw, Timeout: -1})
	if err != nil {
		t.Fatal(err)
	}
	if line := pr.next(ctx); line != "up" {
		t.Fatalf("got %q", line)
	}
	if comm := labtest.Sh(t, h, fmt.Sprintf("cat /proc/%d/comm", p.PID)); comm != "sh" {
		t.Errorf("process %d is %q", p.PID, comm)
	}
	select {
	case <-p.Done():
		t.Error("it ended by itself")
	default:
	}
	if err := p.Kill(ctx, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if r, err := p.Wait(ctx); err != nil || r.Signal != 15 {
		t.Errorf("%+v, %v", r, err)
	}
	labtest.Sh(t, h, "! pgrep sleep") // the group went with it
	if err := p.Kill(ctx, syscall.SIGTERM); err != nil {
		t.Errorf("killing what has ended: %v", err)
	}
}

func testTimeout(t *testing.T, ctx context.Context, h *lab.Host) {
	begin := time.Now()
	_, err := h.Run(ctx, lab.Cmd{Argv: []string{"sh", "-c", "sleep 1001 & sleep 1001"}, Timeout: time.Second})
	var timeout *lab.TimeoutError
	if !errors.As(err, &timeout) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	if d := time.Since(begin); d < time.Second || d > 15*time.Second {
		t.Errorf("the timeout of a second took %v", d)
	}
	soon, cancel := context.WithTimeout(ctx, 500*time.Millisecond)
	defer cancel()
	if _, err := h.Run(soon, lab.Cmd{Argv: []string{"sleep", "1001"}, Timeout: -1}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("context: %v", err)
	}
	labtest.Sh(t, h, "! pgrep -f 'sleep 1001'")
}

func testTerminal(t *testing.T, ctx context.Context, h *lab.Host) {
	r, err := h.Run(ctx, lab.Cmd{Argv: []string{"sh"}, TTY: true, Rows: 33, Cols: 77, Stdin: strings.NewReader("tty; stty size; exit 3\n")})
	if err != nil || r.Code != 3 || !strings.Contains(string(r.Stdout), "/dev/pts/0") || !strings.Contains(string(r.Stdout), "33 77") {
		t.Errorf("%+v, %v: %q", r, err, r.Stdout)
	}
}

func testFiles(t *testing.T, ctx context.Context, h *lab.Host) {
	data := random(1 << 20)
	begin := time.Now()
	if err := h.Put(ctx, "/var/new/folder/file", data, 0o640); err != nil {
		t.Fatal(err)
	}
	in := time.Since(begin)
	if got, want := labtest.Sh(t, h, "sha256sum </var/new/folder/file; stat -c %a /var/new/folder/file; ls -A /var/new/folder"), fmt.Sprintf("%x  -\n640\nfile", sha256.Sum256(data)); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	begin = time.Now()
	back, err := h.Get(ctx, "/var/new/folder/file")
	if err != nil || !bytes.Equal(back, data) {
		t.Errorf("came back different: %d bytes, %v", len(back), err)
	}
	t.Logf("1 MiB in %v in, %v out", in.Round(time.Millisecond), time.Since(begin).Round(time.Millisecond))
	if err := h.Put(ctx, "/var/empty", nil, 0o600); err != nil {
		t.Error(err)
	}
	if got, err := h.Get(ctx, "/var/empty"); err != nil || len(got) != 0 {
		t.Errorf("empty file: %d bytes, %v", len(got), err)
	}
	if got, err := h.Get(ctx, "/proc/version"); err != nil || !bytes.HasPrefix(got, []byte("Linux version ")) {
		t.Errorf("/proc/version: %q, %v", got, err)
	}
	if _, err := h.Get(ctx, "/no/file"); !errors.Is(err, unix.ENOENT) {
		t.Errorf("missing file: %v", err)
	}
	if err := h.Put(ctx, "/proc/nothing/here", data, 0o600); err == nil {
		t.Error("a file was put into /proc")
	}
	if err := h.PutFile(ctx, "/no/file", "/x"); err == nil {
		t.Error("a missing file was sent")
	}
}

func testModules(t *testing.T, ctx context.Context, h *lab.Host) {
	if ifc, err := h.WaitNetwork(ctx, "eth0"); err != nil || ifc.Address != "10.0.2.15" {
		t.Fatalf("%+v, %v", ifc, err)
	}
	for _, again := range []bool{false, true} {
		if err := h.Rmmod(ctx, "e1000"); err != nil {
			t.Fatal(err)
		}
		labtest.Sh(t, h, "! grep -q ^e1000 /proc/modules && ! test -e /sys/class/net/eth0")
		if err := h.Rmmod(ctx, "e1000"); !errors.Is(err, unix.ENOENT) {
			t.Errorf("unloading it twice: %v", err)
		}
		if again {
			labtest.Sh(t, h, "modprobe e1000") // busybox finds it as well
		} else if err := h.Modprobe(ctx, "e1000", "debug=3"); err != nil {
			t.Fatal(err)
		}
		if _, err := h.WaitNetwork(ctx, "eth0"); err != nil {
			t.Fatal(err)
		}
	}
	if err := h.Modprobe(ctx, "e1000", ""); err != nil {
		t.Errorf("loading what is loaded: %v", err)
	}
	if err := h.Modprobe(ctx, "nowhere", ""); !errors.Is(err, unix.ENOENT) {
		t.Errorf("unknown module: %v", err)
	}
	if err := h.Insmod(ctx, "/root/note", ""); !errors.Is(err, unix.ENOEXEC) {
		t.Errorf("no module: %v", err)
	}
}

func testStream(t *testing.T, ctx context.Context, h *lab.Host) {
	s, err := h.StartStream(ctx, lab.StreamOptions{})
	if err != nil {
		t.Fatal(err)
	}
	waitStream(t, ctx, s, 2<<20)
	st, err := s.Stop(ctx)
	if err != nil || st.Err() != nil {
		t.Fatalf("%v, %v", err, st.Err())
	}
	if st.BytesUp() < 2<<20 || st.BytesDown() < 1<<20 {
		t.Errorf("%d up, %d down", st.BytesUp(), st.BytesDown())
	}
	t.Logf("%d bytes up, %d down in %v, longest gap %v", st.BytesUp(), st.BytesDown(), st.Host.Duration, st.LongestGap())
}

// testStreamReload shows both that a connection outlives its card's driver when
// the interface comes back with its address, and that the gap is measured.
func testStreamReload(t *testing.T, ctx context.Context, h *lab.Host) {
	s, err := h.StartStream(ctx, lab.StreamOptions{Block: 2000, Interval: 20 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	waitStream(t, ctx, s, 20_000)
	if err := h.Rmmod(ctx, "e1000"); err != nil {
		t.Fatal(err)
	}
	if err := h.Modprobe(ctx, "e1000", ""); err != nil {
		t.Fatal(err)
	}
	if _, err := h.WaitNetwork(ctx, "eth0"); err != nil {
		t.Fatal(err)
	}
	waitStream(t, ctx, s, s.Stats().BytesReceived+20_000)
	st, err := s.Stop(ctx)
	if err != nil || st.Err() != nil {
		t.Fatalf("%v, %v", err, st.Err())
	}
	if st.LongestGap() < time.Second {
		t.Errorf("the link was down for two seconds, but the longest gap is %v", st.LongestGap())
	}
	t.Logf("longest gap %v", st.LongestGap())
}

func waitStream(t *testing.T, ctx context.Context, s *lab.Stream, bytes int64) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for s.Stats().BytesReceived < bytes {
		select {
		case <-tick.C:
		case <-s.Broken():
			t.Fatalf("the stream broke: %+v", s.Stats())
		case <-ctx.Done():
			t.Fatalf("the stream stands still: %+v", s.Stats())
		}
	}
}

func random(n int) []byte {
	var seed [32]byte
	copy(seed[:], "lupatch lab test")
	b := make([]byte, n)
	_, _ = rand.NewChaCha8(seed).Read(b)
	return b
}

// linePipe gives lines of a command's output as they come.
type linePipe struct{ lines chan string }

type lineWriter struct {
	p    *linePipe
	part string
}

func newLinePipe() (*linePipe, *lineWriter) {
	p := &linePipe{lines: make(chan string, 1000)}
	return p, &lineWriter{p: p}
}

func (w *lineWriter) Write(b []byte) (int, error) {
	w.part += string(b)
	for {
		line, rest, ok := strings.Cut(w.part, "\n")
		if !ok {
			return len(b), nil
		}
		w.part = rest
		w.p.lines <- line
	}
}

func (p *linePipe) next(ctx context.Context) string {
	select {
	case l := <-p.lines:
		return l
	case <-ctx.Done():
		return "(nothing came)"
	}
}
