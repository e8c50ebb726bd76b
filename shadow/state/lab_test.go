// SPDX-License-Identifier: Apache-2.0

package state_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/lupatch/lupatch/bpf"
	"github.com/lupatch/lupatch/internal/lab"
	"github.com/lupatch/lupatch/internal/lab/labtest"
	"github.com/lupatch/lupatch/internal/netns"
	"github.com/lupatch/lupatch/shadow/state"
)

// inGuest is set where this program runs in a lab host.
const inGuest = "LUPATCH_TEST_IN_GUEST"

func TestMain(m *testing.M) {
	if what := os.Getenv(inGuest); what != "" {
		if err := probe(strings.Fields(what)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// answer is what the program in the guest says.
type answer struct {
	State    *state.State
	Settings state.Settings
	Losses   []state.Loss
	OfDriver []state.Device
}

// probe is one process in the guest; what it reads is kept in files.
func probe(args []string) error {
	ctx := context.Background()
	var a answer
	switch args[0] {
	case "read": // INTERFACE [NAMESPACE] DRIVER
		n, err := netns.Own()
		if err == nil && len(args) > 3 {
			inode, _ := strconv.ParseUint(args[2], 10, 32)
			n, err = netns.Find(uint32(inode))
		}
		if err != nil {
			return err
		}
		d, err := state.FindIn(n, args[1])
		if err != nil {
			return err
		}
		if a.OfDriver, err = state.Of(args[len(args)-1]); err != nil {
			return err
		}
		if a.State, err = state.Read(ctx, d); err != nil {
			return err
		}
		if a.Settings, err = state.ReadSettings(ctx, d); err != nil {
			return err
		}
	case "replay": // the state on standard input
		var s state.State
		if err := json.NewDecoder(os.Stdin).Decode(&s); err != nil {
			return err
		}
		a.Losses = s.Replay(ctx)
	case "gro": // INTERFACE VALUE, which every driver leaves to the core
		value, _ := strconv.ParseUint(args[2], 0, 32)
		return ethtool(args[1], 0x2c, uint32(value)) // ETHTOOL_SGRO
	case "hwtstamp": // INTERFACE
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
		if err != nil {
			return err
		}
		return unix.IoctlSetHwTstamp(fd, args[1], &unix.HwTstampConfig{Tx_type: 1, Rx_filter: 1})
	}
	return json.NewEncoder(os.Stdout).Encode(a)
}

func ethtool(name string, words ...uint32) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	if err != nil {
		return err
	}
	var ifr [40]byte
	copy(ifr[:15], name)
	*(*unsafe.Pointer)(unsafe.Pointer(&ifr[16])) = unsafe.Pointer(&words[0])
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&ifr))); errno != 0 {
		return errno
	}
	return nil
}

func ask(t *testing.T, h *lab.Host, what string, in any) (a answer) {
	t.Helper()
	cmd := lab.Cmd{Argv: []string{"/root/probe"}, Env: []string{inGuest + "=" + what}}
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			t.Fatal(err)
		}
		cmd.Stdin = bytes.NewReader(b)
	}
	r, err := h.Run(labtest.Context(t), cmd)
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	if r.Code != 0 {
		t.Fatalf("%s: %s", what, r.Stderr)
	}
	if len(r.Stdout) > 0 {
		if err := json.Unmarshal(r.Stdout, &a); err != nil {
			t.Fatal(err)
		}
	}
	return a
}

// cards are the interfaces of the guest, their modules, and what else is set.
var cards = []struct {
	name, model, module string
	// vectors is how many interrupts it has at least, and queues how many queues
	// for sending.
	vectors, queues int
	options         []string
}{
	{"eth0", "e1000", "e1000", 1, 1, nil},
	{"eth1", "virtio-net-pci", "virtio_net", 3, 1, []string{"vectors=4"}},
	{"eth2", "vmxnet3", "vmxnet3", 2, 2, nil},
	{"eth3", "e1000e", "e1000e", 3, 1, nil},
}

// set gives an interface values that no driver begins with.
const set = `cd /sys/class/net/$I
echo 777 > tx_queue_len
echo 20000 > gro_flush_timeout
echo 2 > napi_defer_hard_irqs
echo 1 > threaded
for q in queues/rx-*; do echo 64 > $q/rps_flow_cnt; echo 2 > $q/rps_cpus; done
for q in queues/tx-*; do echo 99999 > $q/byte_queue_limits/limit_max; echo 2 > $q/xps_cpus || :; done
d=$(readlink -f device)
while [ ! -d $d/msi_irqs ] && [ "$(cat $d/irq 2>/dev/null || echo 0)" = 0 ]; do d=${d%/*}; done
for n in $(ls $d/msi_irqs 2>/dev/null || cat $d/irq); do echo 1 > /proc/irq/$n/smp_affinity_list; done`

// vlan is what goes with an interface.
const vlan = `ip link add link $I name $I.77 type vlan id 77
ip link set $I.77 address 02:00:00:00:00:77
ip link set $I.77 up`

func TestReplay(t *testing.T) {
	t.Parallel()
	labtest.SkipIfShort(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	conf := lab.Config{Modules: []string{"8021q"}, Files: []lab.File{{Path: "/root/probe", Host: self, Mode: 0o755}}}
	for _, c := range cards {
		conf.NICs = append(conf.NICs, lab.NIC{Model: c.model, Options: c.options})
	}
	h := labtest.Boot(t, conf)
	ask(t, h, "hwtstamp eth3", nil)
	for _, c := range cards {
		t.Run(c.module, func(t *testing.T) {
			read := "read " + c.name + " " + c.module
			fresh := ask(t, h, read, nil).State
			labtest.Sh(t, h, "set -e\nI="+c.name+"\n"+vlan+"\n"+set)
			ask(t, h, "gro "+c.name+" 0", nil)
			was := ask(t, h, read, nil)
			if len(was.OfDriver) != 1 || was.OfDriver[0] != was.State.Device {
				t.Errorf("interfaces of the driver: %v, not %v", was.OfDriver, was.State.Device)
			}
			if n := len(was.State.Vectors); n < c.vectors {
				t.Errorf("%d vectors: %+v", n, was.State.Vectors)
			}
			for _, v := range was.State.Vectors {
				if v.CPUs != "1" {
					t.Errorf("%s goes to %s", v, v.CPUs)
				}
			}
			if (was.State.Timestamps != nil) != (c.module == "e1000e") {
				t.Errorf("time stamping: %s", was.State.Timestamps)
			}
			if len(state.Diff(fresh, was.State)) < 6 {
				t.Fatalf("nothing was set: %v", state.Diff(fresh, was.State))
			}
			for _, s := range []string{"rings", "features", "link modes"} {
				if len(was.Settings[s]) == 0 {
					t.Errorf("no %s: %v", s, was.Settings)
				}
			}
			if f := was.Settings["interface"]; f["vlans"] != "{77}" || f["addresses"] != "{02:00:00:00:00:77}" || !strings.Contains(f["multicast"], "01005e000001x") || f["mtu"] != "1500" {
				t.Errorf("filters: %v", f)
			}
			if got := was.Settings["features"]["active"]; got == "" || strings.Contains(got, "rx-gro ") {
				t.Errorf("features: %s", got)
			}
			labtest.Sh(t, h, fmt.Sprintf("set -e; rmmod %s; insmod $(find /lib/modules -name '%s.ko*'); ip link set %s up", c.module, c.module, c.name))
			labtest.Sh(t, h, "until grep -q 1 /sys/class/net/"+c.name+"/carrier; do usleep 20000; done")
			lost := ask(t, h, read, nil)
			if d := state.Diff(was.State, lost.State); len(d) < 6 {
				t.Fatalf("nothing was lost by replacing the driver: %v", d)
			}
			losses := ask(t, h, "replay", was.State).Losses
			if len(losses) > 0 {
				t.Errorf("not restored: %v", losses)
			}
			now := ask(t, h, read, nil)
			if d := state.Diff(was.State, now.State); len(d) > 0 {
				t.Errorf("different after it was replayed: %v", d)
			}
			// What the driver alone can set back is seen to be lost.
			d := state.Compare(was.Settings, now.Settings)
			if !slices.ContainsFunc(d, func(d state.Difference) bool { return d.Setting == "features" && d.Field == "active" }) {
				t.Errorf("a feature is back, and nobody sees it: %v", d)
			}
			if !slices.ContainsFunc(d, func(d state.Difference) bool { return d.Setting == "interface" && d.Field == "vlans" }) {
				t.Errorf("the VLAN is gone, and nobody sees it: %v", d)
			}
			ask(t, h, "gro "+c.name+" 0", nil)
			labtest.Sh(t, h, "set -e\nI="+c.name+"\n"+vlan)
			for _, d := range state.Compare(was.Settings, ask(t, h, read, nil).Settings) {
				// IPv6 joins groups when it likes.
				if !d.Negotiated && d.Field != "multicast" {
					t.Errorf("settings differ: %s", d)
				}
			}
		})
	}
	t.Run("namespace", func(t *testing.T) { inNamespace(t, h) })
	t.Run("losses", func(t *testing.T) { cannotBeRestored(t, h) })
}

// inNamespace reads and replays where /sys of this process shows nothing.
func inNamespace(t *testing.T, h *lab.Host) {
	pid := labtest.Sh(t, h, "unshare -n sleep 1000 >/dev/null 2>&1 & p=$!; until [ $(readlink /proc/$p/ns/net) != $(readlink /proc/self/ns/net) ]; do usleep 10000; done; echo $p")
	inode := labtest.Sh(t, h, "readlink /proc/"+pid+"/ns/net | tr -dc 0-9")
	labtest.Sh(t, h, "ip link set eth2 netns "+pid)
	was := ask(t, h, "read eth2 "+inode+" vmxnet3", nil)
	if fmt.Sprint(was.State.Device.NetNS) != inode || was.State.Attributes["tx_queue_len"] != "777" || len(was.State.Vectors) == 0 || len(was.Settings["rings"]) == 0 {
		t.Fatalf("%+v", was)
	}
	labtest.Sh(t, h, "nsenter -t "+pid+" -n sh -c 'ip link set dev eth2 txqueuelen 1000; ip link set eth2 up'")
	if l := ask(t, h, "replay", was.State).Losses; len(l) > 0 {
		t.Errorf("%v", l)
	}
	if now := ask(t, h, "read eth2 "+inode+" vmxnet3", nil).State; len(state.Diff(was.State, now)) > 0 {
		t.Errorf("%v", state.Diff(was.State, now))
	}
	if got := labtest.Sh(t, h, "ls /sys/class/net | tr '\\n' ' '; grep -c ' /sys ' /proc/mounts"); strings.Contains(" "+got, " eth2 ") || !strings.HasSuffix(got, " 1") {
		t.Errorf("it is seen from outside: %s", got)
	}
	labtest.Sh(t, h, "kill "+pid)
}

// cannotBeRestored: each thing is named with a reason.
func cannotBeRestored(t *testing.T, h *lab.Host) {
	s := ask(t, h, "read eth0 e1000", nil).State
	s.Attributes["queues/tx-7/xps_cpus"] = "1"
	s.Attributes["tx_queue_len"] = "-3"
	s.Vectors[0].CPUs = "63"
	s.Vectors = append(s.Vectors, state.Vector{Index: 9, Action: "eth0-rx-9", CPUs: "0"})
	s.Timestamps = &state.Timestamps{TX: 1}
	losses := ask(t, h, "replay", s).Losses
	var got []string
	for _, l := range losses {
		if l.Why == "" {
			t.Errorf("no reason: %+v", l)
		}
		got = append(got, l.What)
	}
	slices.Sort(got)
	if want := []string{"hwtstamp", "queues/tx-7/xps_cpus", "tx_queue_len", "vector 0 (eth0)", "vector 9 (eth0-rx-9)"}; !slices.Equal(got, want) {
		t.Errorf("%q: %v", got, losses)
	}
	captures(t, h)
	s.Device.Parent = "0000:00:1f.7"
	if l := ask(t, h, "replay", s).Losses; len(l) != 1 || !strings.Contains(l[0].Why, "no network interface") {
		t.Errorf("%v", l)
	}
}

// captures replays requests that the watch has kept: time stamping is set as it was
// asked for, an EEPROM has kept what was written, and nothing else is tried.
func captures(t *testing.T, h *lab.Host) {
	t.Helper()
	s := ask(t, h, "read eth3 e1000e", nil).State
	if s.Timestamps == nil || s.Timestamps.TX != 1 {
		t.Fatalf("%s", s.Timestamps)
	}
	s.Timestamps = nil
	s.Requests = []bpf.Request{
		{Command: unix.SIOCSHWTSTAMP, Data: make([]byte, 12)}, // off
		{Command: unix.SIOCETHTOOL, Setting: 0x0c},
		{Command: unix.SIOCSMIIREG, Setting: 18 << 16, Comm: "mii-tool"},
		{Command: 0x89f3, Comm: "vendortool"},
	}
	losses := ask(t, h, "replay", s).Losses
	if len(losses) != 2 || losses[0].What != "MII register 18 of PHY 0" || losses[1].What != "private ioctl 3 (0x89f3)" || !strings.HasPrefix(losses[1].Why, "vendortool made this request at ") {
		t.Errorf("%v", losses)
	}
	if now := ask(t, h, "read eth3 e1000e", nil).State; now.Timestamps.TX != 0 {
		t.Errorf("what was captured is not in force: %s", now.Timestamps)
	}
}
