// SPDX-License-Identifier: Apache-2.0

// Command emulator finds out whether QEMU's TCG executes code as another processor has
// just left it. In a lab host one processor sends packets while the other has a function
// on their way traced and untraced, which is what enabling a livepatch does to code, too.
// Nothing of lupatch but the lab's agent is in that host.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/lupatch/lupatch/internal/evidence/record"
	"github.com/lupatch/lupatch/internal/lab"
)

const release = "6.1.0-47-amd64"

// script ends by itself; only a processor that hangs keeps it from that.
const script = `mount -t tracefs t /sys/kernel/tracing 2>/dev/null
cd /sys/kernel/tracing
taskset 1 ping -A -q 10.0.2.2 >/dev/null 2>&1 &
echo 0 >tracing_on
echo dev_hard_start_xmit >set_ftrace_filter
end=$(($(date +%%s) + %d)) n=0
while [ $(date +%%s) -lt $end ]; do
	echo function >current_tracer; echo nop >current_tracer; n=$((n+1))
done
echo $n $(cat /sys/class/net/eth0/statistics/tx_packets)`

type options struct {
	lupatch, table string
	seconds        int
	emulators      []string
}

func main() {
	lab.RunIfGuest()
	var o options
	flag.StringVar(&o.lupatch, "lupatch", "bin/lupatch", "the `PROGRAM` that becomes the lab host's first process")
	flag.StringVar(&o.table, "table", "", "`FILE` (TSV) that holds the results and is continued")
	flag.IntVar(&o.seconds, "seconds", 120, "how long each emulator is tried")
	flag.Parse()
	if o.table == "" {
		flag.Usage()
		os.Exit(2)
	}
	// The one that the lab takes, and the others named.
	o.emulators = append(flag.Args(), "")
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := all(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "emulator:", err)
		os.Exit(1)
	}
}

func all(ctx context.Context, o options) error {
	tree, err := record.TreeHash(ctx)
	if err != nil {
		return err
	}
	t, err := record.Open(o.table, "a function is traced and untraced on one processor while packets pass it on the other, by make evidence-emulator", tree,
		"emulator", "kernel", "seconds", "toggles", "packets", "outcome")
	if err != nil {
		return err
	}
	for _, e := range o.emulators {
		row, err := try(ctx, o, e)
		if err != nil {
			return err
		}
		fmt.Fprintln(os.Stderr, strings.Join(row, " | "))
		if err := t.Put(row...); err != nil {
			return err
		}
	}
	return nil
}

func try(ctx context.Context, o options, emulator string) ([]string, error) {
	h, err := lab.Boot(ctx, lab.Config{
		Release: release, Init: o.lupatch, Accel: lab.TCG, QEMU: emulator,
		NICs: []lab.NIC{{Model: "virtio-net-pci"}},
	})
	if err != nil {
		return nil, err
	}
	defer h.Close()
	if _, err := h.WaitNetwork(ctx, "eth0"); err != nil {
		return nil, err
	}
	version, err := exec.CommandContext(ctx, h.Emulator(), "--version").Output()
	if err != nil {
		return nil, fmt.Errorf("asking %s for its version: %w", h.Emulator(), err)
	}
	name, _, _ := strings.Cut(string(version), "\n")
	row := []string{name, release, strconv.Itoa(o.seconds), "-", "-", ""}
	r, err := h.Run(ctx, lab.Cmd{Argv: []string{"sh", "-c", fmt.Sprintf(script, o.seconds)}, Timeout: time.Duration(o.seconds)*time.Second + time.Minute})
	faults := h.Faults()
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case errors.Is(err, context.DeadlineExceeded), len(faults) > 0:
		row[5] = "hangs"
		if err != nil {
			row[5] += ": " + err.Error()
		}
		if len(faults) > 0 {
			row[5] += ": " + faults[0].Text
		}
	case err != nil:
		return nil, err
	default:
		var toggles, packets string
		if n, err := fmt.Sscan(string(r.Stdout), &toggles, &packets); n != 2 {
			return nil, fmt.Errorf("the script says %q and %q: %w", r.Stdout, r.Stderr, err)
		}
		row[3], row[4], row[5] = toggles, packets, "runs"
	}
	return row, nil
}
