// SPDX-License-Identifier: Apache-2.0

package compat_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/lupatch/lupatch/internal/lab"
	"github.com/lupatch/lupatch/internal/lab/labtest"
	"github.com/lupatch/lupatch/internal/refuse"
	"github.com/lupatch/lupatch/kpatch"
	"github.com/lupatch/lupatch/shadow/compat"
)

// inGuest is set where this program runs in a lab host.
const inGuest = "LUPATCH_TEST_IN_GUEST"

func TestMain(m *testing.M) {
	if what := os.Getenv(inGuest); what != "" {
		if err := guest(strings.Fields(what)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// guest asks for one module, with something on its device: MODULE [INTERFACE WHAT].
func guest(args []string) error {
	if args[0] == "features" { // INTERFACE, and a route
		on, err := compat.Features(args[1])
		if err != nil {
			return err
		}
		dev, err := compat.RouteTo(netip.MustParseAddr("10.99.0.1"))
		if err != nil {
			return err
		}
		fmt.Println(strings.Join(append(on, "route:"+dev), " "))
		return nil
	}
	if len(args) == 3 {
		undo, err := burden(args[1], args[2])
		if err != nil {
			return fmt.Errorf("%s: %w", args[2], err)
		}
		defer undo()
	}
	k := kpatch.Running()
	f, list, err := compat.Host(context.Background(), k, args[0], compat.HostOptions{})
	if err != nil {
		return err
	}
	root, err := compat.CheckRoot(k, f, []string{"something"})
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(map[string]any{"facts": f, "list": append(list, root...)})
}

// burden puts something on an interface that stands in the way of a replacement.
func burden(dev, what string) (undo func(), err error) {
	i, err := net.InterfaceByName(dev)
	if err != nil {
		return nil, err
	}
	switch what {
	case "xdp-driver", "xdp-generic":
		p, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.XDP, License: "GPL", Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 2), asm.Return()}})
		if err != nil {
			return nil, err
		}
		flags := link.XDPDriverMode
		if what == "xdp-generic" {
			flags = link.XDPGenericMode
		}
		l, err := link.AttachXDP(link.XDPOptions{Program: p, Interface: i.Index, Flags: flags})
		if err != nil {
			return nil, err
		}
		return func() { l.Close() }, nil
	case "xsk":
		return xsk(i.Index)
	}
	return nil, fmt.Errorf("nobody knows %s", what)
}

// xsk binds an AF_XDP socket to the first queue, copying.
func xsk(index int) (func(), error) {
	fd, err := unix.Socket(unix.AF_XDP, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	const size, chunk = 16 * 4096, 4096
	area, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return nil, err
	}
	if err := registerUmem(fd, area, chunk); err != nil {
		return nil, err
	}
	for _, ring := range []int{unix.XDP_UMEM_FILL_RING, unix.XDP_UMEM_COMPLETION_RING, unix.XDP_RX_RING, unix.XDP_TX_RING} {
		if err := unix.SetsockoptInt(fd, unix.SOL_XDP, ring, 16); err != nil {
			return nil, err
		}
	}
	return func() { unix.Close(fd) }, unix.Bind(fd, &unix.SockaddrXDP{Flags: unix.XDP_COPY, Ifindex: uint32(index)})
}

func ask(t *testing.T, h *lab.Host, what string) (facts compat.Facts, list []compat.Finding) {
	t.Helper()
	r, err := h.Run(labtest.Context(t), lab.Cmd{Argv: []string{"/root/probe"}, Env: []string{inGuest + "=" + what}, Timeout: 2 * time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	if r.Code != 0 {
		t.Fatalf("%s: %s", what, r.Stderr)
	}
	var a struct {
		Facts compat.Facts
		List  []compat.Finding
	}
	if err := json.Unmarshal(r.Stdout, &a); err != nil {
		t.Fatal(err)
	}
	return a.Facts, a.List
}

// A real kernel is asked what is on its network cards, in every namespace.
func TestRealHost(t *testing.T) {
	t.Parallel()
	labtest.SkipIfShort(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	h := labtest.Boot(t, lab.Config{
		NICs:  []lab.NIC{{Model: "e1000"}, {Model: "virtio-net-pci"}, {Model: "e1000"}},
		Files: []lab.File{{Path: "/root/probe", Host: self, Mode: 0o755}},
	})
	names := strings.Fields(labtest.Sh(t, h, "for d in /sys/bus/pci/drivers/e1000/0*/net/* /sys/bus/virtio/drivers/virtio_net/*/net/*; do echo ${d##*/}; done"))
	if len(names) != 3 {
		t.Fatal(names)
	}
	virtio := names[2]
	labtest.Sh(t, h, "ip link set "+virtio+" up")

	for what, want := range map[string]refuse.ID{
		"e1000":                                 "",
		"virtio_net":                            "",
		"virtio_net " + virtio + " xdp-generic": "",
		"virtio_net " + virtio + " xdp-driver":  refuse.DriverXDP,
		"virtio_net " + virtio + " xsk":         refuse.DriverAFXDP,
		// Debian's kernel cannot say to which devices such sockets are bound.
		"e1000 " + virtio + " xsk": refuse.DriverAFXDP,
		"igb":                      refuse.DriverNotLoaded,
	} {
		facts, list := ask(t, h, what)
		e, _ := refuse.As(compat.Refusal(list))
		if want == "" && e != nil || want != "" && (e == nil || e.ID != want) {
			t.Errorf("%s: %+v, want %q", what, e, want)
		}
		if module, _, _ := strings.Cut(what, " "); len(facts.Links) != map[string]int{"e1000": 2, "virtio_net": 1}[module] {
			t.Errorf("%s: %+v", what, facts)
		}
	}

	// What there is to read is read, though these cards have no such feature.
	labtest.Sh(t, h, "ip addr add 10.99.0.2/24 dev "+virtio)
	on := labtest.Sh(t, h, inGuest+"='features "+virtio+"' /root/probe")
	for _, f := range []string{"rx-gro", "rx-checksum", "route:" + virtio} {
		if !slices.Contains(strings.Fields(on), f) {
			t.Errorf("%s is not among %s", f, on)
		}
	}

	// In another network namespace, which one process keeps.
	labtest.Sh(t, h, "unshare -n sleep 1000 >/dev/null 2>&1 & p=$!; until [ \"$(readlink /proc/$p/ns/net)\" != \"$(readlink /proc/1/ns/net)\" ] && [ \"$(cat /proc/$p/comm)\" = sleep ]; do :; done; ip link set "+names[1]+" netns $p")
	facts, list := ask(t, h, "e1000")
	if err := compat.Refusal(list); err != nil || len(facts.Links) != 2 || facts.Links[0].Namespace == facts.Links[1].Namespace {
		t.Errorf("%v: %+v", err, facts)
	}
}
