// SPDX-License-Identifier: Apache-2.0

package compat

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/lupatch/lupatch/internal/kallsyms"
	"github.com/lupatch/lupatch/internal/kmodule"
	"github.com/lupatch/lupatch/kpatch"
)

// Exports are the symbols that a kernel and its modules export, as far as this host
// can say.
type Exports struct {
	// CRC are the checksums; those of symbols that are known to be there, but not
	// with which, are absent, see Known.
	CRC map[string]uint32
	// Names are all symbols known to be exported.
	Names map[string]bool
	// Whole is set if what is not in Names is not exported.
	Whole bool
	// From says what they were read from, in a few words.
	From string
}

func (e *Exports) add(name string, crc uint32) { e.Names[name], e.CRC[name] = true, crc }

// ReadExports finds the exported symbols of the running kernel: in Module.symvers of
// its headers package, else in the kernel's image in /boot. Without both, only those
// are known that the loaded modules use or give, and those that /proc/kallsyms
// shows.
//
// Symbols of modules are added by Add: the image has only its own.
func ReadExports(k *kpatch.Kernel, release string) (*Exports, error) {
	e := &Exports{CRC: map[string]uint32{}, Names: map[string]bool{}}
	modules := k.Path("/lib/modules", release)
	for _, p := range []string{filepath.Join(modules, "build/Module.symvers"), k.Path("/usr/src/linux-headers-"+release, "Module.symvers"), k.Path("/boot/symvers-" + release)} {
		err := e.symvers(p)
		if err == nil {
			e.Whole, e.From = true, p
			return e, nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	for _, p := range []string{k.Path("/boot/vmlinuz-" + release), filepath.Join(modules, "vmlinuz")} {
		if _, err := os.Stat(p); err != nil {
			continue
		}
		if err := e.image(p); err != nil {
			return nil, fmt.Errorf("reading the exported symbols of %s: %w", p, err)
		}
		e.Whole, e.From = true, p
		return e, nil
	}
	e.From = "/proc/kallsyms and loaded modules"
	return e, e.proc(k)
}

// Add puts in what a module exports, and what it was compiled with of others: it
// runs here, so that this is what they have.
func (e *Exports) Add(m *Image, running bool) {
	for name, crc := range m.Facts.Exports {
		e.add(name, crc)
	}
	if !running {
		return
	}
	for _, i := range m.Facts.Imports {
		if i.HasCRC {
			e.add(i.Name, i.CRC)
		}
	}
}

// symvers reads Module.symvers: checksum, symbol, exporter, kind and namespace.
func (e *Exports) symvers(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("reading exported symbols: %w", err)
	}
	defer f.Close()
	sc := bufio.NewScanner(f)
	for line := 1; sc.Scan(); line++ {
		w := strings.Split(sc.Text(), "\t")
		if len(w) < 4 {
			return fmt.Errorf("reading exported symbols: %s:%d: %q", path, line, sc.Text())
		}
		crc, err := strconv.ParseUint(w[0], 0, 32)
		if err != nil {
			return fmt.Errorf("reading exported symbols: %s:%d: %w", path, line, err)
		}
		e.add(w[1], uint32(crc))
	}
	return sc.Err()
}

// tables are the two tables of exports in an image, each beside that of checksums
// (include/asm-generic/vmlinux.lds.h, RO_DATA).
var tables = []struct{ symbols, crcs string }{
	{"__start___ksymtab", "__start___kcrctab"},
	{"__start___ksymtab_gpl", "__start___kcrctab_gpl"},
}

// image reads the tables of a kernel image. An entry (struct kernel_symbol,
// kernel/module/internal.h) has three words of 32 bits where the architecture has
// relative ones (HAVE_ARCH_PREL32_RELOCATIONS), as x86 has; a checksum has one.
func (e *Exports) image(path string) error {
	const entry, sum = 12, 4
	im, err := kallsyms.Open(path)
	if err != nil {
		return err
	}
	syms, err := im.Symbols()
	if err != nil {
		return err
	}
	type place struct {
		from, to uint64
		crcs     []byte
	}
	var places []place
	for _, t := range tables {
		from, to, crcs := syms.Lookup(t.symbols), syms.Lookup(strings.Replace(t.symbols, "start", "stop", 1)), syms.Lookup(t.crcs)
		if len(from) != 1 || len(to) != 1 || to[0].Addr < from[0].Addr {
			return fmt.Errorf("it has no %s", t.symbols)
		}
		p := place{from: from[0].Addr, to: to[0].Addr}
		if len(crcs) == 1 { // none without CONFIG_MODVERSIONS
			if p.crcs, err = im.ReadAt(crcs[0].Addr, int((p.to-p.from)/entry*sum)); err != nil {
				return err
			}
		}
		places = append(places, p)
	}
	for _, s := range syms.Symbols() {
		name, ok := strings.CutPrefix(s.Name, "__ksymtab_")
		if !ok || s.Module != "" {
			continue
		}
		for _, p := range places {
			if s.Addr < p.from || s.Addr >= p.to {
				continue
			}
			e.Names[name] = true
			if i := (s.Addr - p.from) / entry * sum; p.crcs != nil {
				e.CRC[name] = binary.LittleEndian.Uint32(p.crcs[i:])
			}
		}
	}
	if len(e.Names) == 0 {
		return errors.New("no exported symbol was found in it")
	}
	return nil
}

// proc reads the names of exports from /proc/kallsyms, which has their table's
// entries if the kernel has CONFIG_KALLSYMS_ALL. Addresses do not matter.
func (e *Exports) proc(k *kpatch.Kernel) error {
	f, err := os.Open(k.Path("/proc/kallsyms"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("reading exported symbols: %w", err)
	}
	defer f.Close()
	sc := bufio.NewScanner(f)
	for sc.Scan() {
		w := strings.Fields(sc.Text())
		if len(w) < 3 {
			continue
		}
		if name, ok := strings.CutPrefix(w[2], "__ksymtab_"); ok {
			e.Names[name] = true
		}
	}
	if err := sc.Err(); err != nil {
		return fmt.Errorf("reading exported symbols: %w", err)
	}
	e.Whole = len(e.Names) > 0
	return nil
}

// running gives the files of loaded modules that are installed under their names,
// as far as they can be read and are what is in memory.
func running(k *kpatch.Kernel, tree *kmodule.Tree) ([]*Image, error) {
	list, err := k.Modules()
	if err != nil {
		return nil, err
	}
	var out []*Image
	for _, m := range list {
		file, err := tree.Load(m.Name)
		if err != nil {
			continue
		}
		id, err := k.ModuleBuildID(m.Name)
		if err != nil {
			continue
		}
		if i, err := NewImage(file.Path, file.Image); err == nil && i.Facts.BuildID == id {
			out = append(out, i)
		}
	}
	return out, nil
}
