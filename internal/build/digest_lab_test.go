// SPDX-License-Identifier: Apache-2.0

package build_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"debug/elf"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"io"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/lupatch/lupatch/internal/build"
	"github.com/lupatch/lupatch/internal/kallsyms"
	"github.com/lupatch/lupatch/internal/kbuild"
	"github.com/lupatch/lupatch/internal/lab"
	"github.com/lupatch/lupatch/internal/lab/labtest"
	"github.com/lupatch/lupatch/internal/sample"
	"github.com/lupatch/lupatch/patchgen"
)

// TestDigestsOfRunningKernel computes the digest of every function of many
// files and compares it with the code in the memory of running kernels, on
// processors for which the kernel rewrites itself in different ways. A mask
// too small would make updates refuse to load on some machines.
func TestDigestsOfRunningKernel(t *testing.T) {
	labtest.SkipIfShort(t)
	for _, c := range []struct {
		release string
		cpus    []machine
	}{
		{release, []machine{{lab.DefaultCPUModel, ""}, {"max", ""}}},
		// Call depth tracking, asked for by name, changes what calls lead to.
		{labtest.Backport(t), []machine{{"Skylake-Client", "retbleed=stuff"}, {"max", ""}}},
	} {
		t.Run(c.release, func(t *testing.T) {
			if c.release != release {
				sample.OnlyThorough(t, "TestSupportedKernels loads updates into it")
			}
			digestsOfRunningKernel(t, openRelease(t, c.release), c.cpus)
		})
	}
}

// machine is a processor and what its kernel is told.
type machine struct{ cpu, cmdline string }

func digestsOfRunningKernel(t *testing.T, tree *kbuild.Tree, machines []machine) {
	im, _ := openImage(t, tree)
	sizes, err := build.StructSizes(im)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]map[string][]patchgen.Digest{"": {}, "e1000": {}}
	for _, source := range []string{
		"fs/proc/meminfo.c", "net/ipv4/tcp_ipv4.c", "kernel/fork.c", "mm/memory.c", "kernel/sched/core.c", "arch/x86/kernel/process.c",
		"net/core/dev.c", "kernel/time/timer.c", "fs/dcache.c", "fs/readdir.c", "drivers/net/ethernet/intel/e1000/e1000_main.c", "drivers/net/ethernet/intel/e1000/e1000_hw.c",
	} {
		addDigests(t, tree, sizes, source, want)
	}
	for _, m := range machines {
		t.Run(m.cpu, func(t *testing.T) {
			t.Parallel()
			h := labtest.Boot(t, lab.Config{Release: tree.Release, NICs: []lab.NIC{{Model: "e1000"}}, CPUModel: m.cpu, Cmdline: strings.Fields(m.cmdline)})
			if m.cmdline != "" {
				t.Logf("retbleed: %s", labtest.Sh(t, h, "cat /sys/devices/system/cpu/vulnerabilities/retbleed"))
			}
			compareMemory(t, h, want)
		})
	}
}

// addDigests compiles a file as shipped and notes the digests by module and
// name; "" is the kernel itself.
func addDigests(t *testing.T, tree *kbuild.Tree, sizes patchgen.Sizes, source string, want map[string]map[string][]patchgen.Digest) {
	t.Helper()
	tu, err := tree.TU(context.Background(), source)
	if err != nil {
		t.Fatal(err)
	}
	obj := compileShipped(t, tree, tu, nil)
	var names []string
	for _, y := range obj.Symbols {
		// Code for boot is freed; a weak function may be another's by now; the
		// trampoline of a static call (__SCT__) is what the kernel rewrites.
		// What objtool calls __pfx_ is where it puts such code.
		if strings.HasPrefix(y.Name, "__SCT__") || strings.HasPrefix(y.Name, "__pfx_") {
			continue
		}
		if y.Type == elf.STT_FUNC && y.Section != nil && y.Size > 0 && y.Bind != elf.STB_WEAK &&
			!strings.HasPrefix(y.Section.Name, ".init") && !strings.HasPrefix(y.Section.Name, ".exit") {
			names = append(names, y.Name)
		}
	}
	sums, err := patchgen.Digests(obj, sizes, names)
	if err != nil {
		t.Fatal(err)
	}
	unit := strings.TrimPrefix(tu.Unit, kbuild.Vmlinux)
	for name, d := range sums {
		want[unit][name] = append(want[unit][name], d)
	}
}

func compareMemory(t *testing.T, h *lab.Host, want map[string]map[string][]patchgen.Digest) {
	ctx := labtest.Context(t)
	text, err := h.Get(ctx, "/proc/kallsyms")
	if err != nil {
		t.Fatal(err)
	}
	syms, err := kallsyms.ReadProc(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	for unit, digests := range want {
		mem := readText(t, h, syms, unit)
		checked := 0
		for _, name := range slices.Sorted(maps.Keys(digests)) {
			for _, d := range digests[name] {
				same, where := false, "no symbol"
				for _, s := range syms.Lookup(name) {
					if s.Module != unit {
						continue
					}
					code := mem.at(s.Addr, int(d.Size))
					if code == nil {
						continue
					}
					where = fmt.Sprintf("%#x: % x", s.Addr, code[:min(len(code), 48)])
					same = same || sum(code, d.Mask) == d.Sum
				}
				checked++
				if !same {
					t.Errorf("%s %s: the running code has another digest (masks %v; %s)", unit, name, d.Mask, where)
				}
			}
		}
		t.Logf("%q: %d functions compared", unit, checked)
		if checked < 80 {
			t.Errorf("%q: only %d functions compared", unit, checked)
		}
	}
}

// sum is the hash of package patchgen, as the template in C computes it.
func sum(code []byte, mask []patchgen.Range) uint64 {
	h, at := fnv.New64a(), uint64(0)
	for _, m := range mask {
		h.Write(code[at:m.From])
		at = m.To
	}
	h.Write(code[at:])
	return h.Sum64()
}

type memory struct {
	start uint64
	bytes []byte
}

func (m memory) at(addr uint64, n int) []byte {
	if addr < m.start || addr-m.start+uint64(n) > uint64(len(m.bytes)) {
		return nil
	}
	return m.bytes[addr-m.start:][:n]
}

// readText reads the running kernel's or a module's code out of /proc/kcore.
func readText(t *testing.T, h *lab.Host, syms *kallsyms.Table, unit string) memory {
	t.Helper()
	var from, to uint64
	if unit == "" {
		from, to = syms.Lookup("_stext")[0].Addr, syms.Lookup("_etext")[0].Addr
	} else {
		for _, s := range syms.Symbols() {
			if s.Module == unit && s.IsText() {
				if from == 0 || s.Addr < from {
					from = s.Addr
				}
				to = max(to, s.Addr+4096)
			}
		}
	}
	from &^= 4095
	to = (to + 4095) &^ 4095
	head := labtest.Sh(t, h, "dd if=/proc/kcore bs=4096 count=4 2>/dev/null | base64")
	raw, err := base64.StdEncoding.DecodeString(strings.ReplaceAll(head, "\n", ""))
	if err != nil {
		t.Fatal(err)
	}
	phoff, n := binary.LittleEndian.Uint64(raw[32:]), int(binary.LittleEndian.Uint16(raw[56:]))
	for i := range n {
		p := raw[phoff+uint64(i)*56:]
		off, vaddr, size := binary.LittleEndian.Uint64(p[8:]), binary.LittleEndian.Uint64(p[16:]), binary.LittleEndian.Uint64(p[32:])
		if from < vaddr || from >= vaddr+size {
			continue
		}
		to = min(to, vaddr+size)
		labtest.Sh(t, h, fmt.Sprintf("dd if=/proc/kcore bs=4096 skip=%d count=%d 2>/dev/null | gzip -1 > /root/text.gz", (off+from-vaddr)/4096, (to-from)/4096))
		packed, err := h.Get(labtest.Context(t), "/root/text.gz")
		if err != nil {
			t.Fatal(err)
		}
		z, err := gzip.NewReader(bytes.NewReader(packed))
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(z)
		if err != nil {
			t.Fatal(err)
		}
		return memory{from, b}
	}
	t.Fatalf("/proc/kcore does not hold %#x", from)
	return memory{}
}
