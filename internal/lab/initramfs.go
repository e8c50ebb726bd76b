// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"bytes"
	"context"
	"debug/elf"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"

	"github.com/lupatch/lupatch/internal/deb"
	"github.com/lupatch/lupatch/internal/kmodule"
	"github.com/lupatch/lupatch/internal/lab/cpio"
	"github.com/lupatch/lupatch/internal/lab/guest"
)

// writeInitramfs makes the guest's root file system. It is not compressed:
// neither gzip nor zstd makes a boot measurably shorter.
func writeInitramfs(ctx context.Context, out io.Writer, c *Config) error {
	w := cpio.NewWriter(out)
	for _, d := range []string{"bin", "dev", "etc", "lib", "proc", "root", "sys", "tmp", "usr", "var/log", "run"} {
		if err := w.Dir(d, 0o755); err != nil {
			return err
		}
	}
	for _, l := range [][2]string{{"sbin", "bin"}, {"usr/bin", "../bin"}, {"usr/sbin", "../bin"}, {"var/run", "../run"}} {
		if err := w.Symlink(l[0], l[1]); err != nil {
			return err
		}
	}
	steps := []func(context.Context, *cpio.Writer, *Config) error{addInit, addPackages, addBusybox, addModules, addEtc, addFiles}
	for _, step := range steps {
		if err := step(ctx, w, c); err != nil {
			return fmt.Errorf("making the lab host's file system: %w", err)
		}
	}
	return w.Close()
}

func addInit(_ context.Context, w *cpio.Writer, c *Config) error {
	path := c.Init
	if path == "" {
		// Not os.Executable: the file may have been replaced since.
		path = "/proc/self/exe"
	}
	image, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("reading the first process: %w", err)
	}
	if err := checkStatic(image); err != nil {
		return fmt.Errorf("looking at %s: %w", path, err)
	}
	if err := w.File(guest.InitPath, 0o755, image); err != nil {
		return err
	}
	return w.Symlink("bin/lupatch", "../init")
}

// checkStatic says early what would be a kernel panic later.
func checkStatic(image []byte) error {
	f, err := elf.NewFile(bytes.NewReader(image))
	if err != nil {
		return fmt.Errorf("it is no program for the lab host: %w", err)
	}
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			return errors.New("it is dynamically linked and cannot be a lab host's first process; build it with CGO_ENABLED=0")
		}
	}
	return nil
}

func addBusybox(ctx context.Context, w *cpio.Writer, c *Config) error {
	dir, err := c.Cache.Unpack(ctx, "busybox-static", c.Cache.AnyVersion("busybox-static"))
	if err != nil {
		return err
	}
	var image []byte
	var file string
	// Debian 13 moved it below usr/.
	for _, p := range []string{"bin/busybox", "usr/bin/busybox"} {
		file = filepath.Join(dir, p)
		if image, err = os.ReadFile(file); err == nil {
			break
		}
	}
	if err != nil {
		return fmt.Errorf("reading busybox: %w", err)
	}
	if err := w.File("bin/busybox", 0o755, image); err != nil {
		return err
	}
	list, err := exec.CommandContext(ctx, file, "--list").Output()
	if err != nil {
		return fmt.Errorf("asking busybox for its commands: %w", err)
	}
	for _, name := range strings.Fields(string(list)) {
		if name != path.Base(name) || w.Has("bin/"+name) {
			continue
		}
		if err := w.Symlink("bin/"+name, "busybox"); err != nil {
			return err
		}
	}
	return nil
}

// addModules takes the needed modules only: all of them would be 400 MB.
func addModules(_ context.Context, w *cpio.Writer, c *Config) error {
	var names []string
	if !c.SerialAgent {
		names = append(names, agentModules...)
	}
	names = append(append(names, c.drivers()...), c.Modules...)
	modules, err := c.tree.Closure(append(names, c.Available...)...)
	if err != nil {
		return err
	}
	dir := path.Join("lib/modules", c.Kernel.Release)
	for _, m := range modules {
		if err := w.File(path.Join(dir, m.Path), 0o644, m.Image); err != nil {
			return err
		}
	}
	lists := map[string][]byte{"modules.dep": kmodule.DepFile(modules), "modules.alias": kmodule.AliasFile(modules),
		"modules.softdep": kmodule.SoftdepFile(modules), "modules.symbols": nil}
	for _, name := range []string{"modules.dep", "modules.alias", "modules.softdep", "modules.symbols"} {
		if err := w.File(path.Join(dir, name), 0o644, lists[name]); err != nil {
			return err
		}
	}
	for _, name := range []string{"modules.builtin", "modules.builtin.modinfo", "modules.order"} {
		text, err := os.ReadFile(filepath.Join(c.Kernel.Modules(), name))
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		if err := w.File(path.Join(dir, name), 0o644, text); err != nil {
			return err
		}
	}
	// The configuration is where programs look for it on a Debian host.
	config, err := os.ReadFile(c.Kernel.Config())
	if err != nil {
		return err
	}
	return w.File("boot/config-"+c.Kernel.Release, 0o644, config)
}

func addEtc(_ context.Context, w *cpio.Writer, c *Config) error {
	g := guest.Config{Hostname: "lab", ManualNetwork: c.ManualNetwork, Virtio: !c.SerialAgent, Systemd: c.Systemd, Networks: c.networks(), Modules: c.Modules}
	if !c.NoDrivers {
		g.Modules = append(c.drivers(), c.Modules...)
	}
	conf, err := json.Marshal(g)
	if err != nil {
		return err
	}
	files := []struct{ name, text string }{
		{guest.ConfigPath, string(conf)},
		{"etc/hostname", "lab\n"},
		{"etc/machine-id", "6c757061746368206c6162206d616368\n"}, // for DHCP
		{"etc/hosts", "127.0.0.1 localhost lab\n"},
		{"etc/resolv.conf", "nameserver 10.0.2.3\n"},
		{"etc/passwd", "root:x:0:0:root:/root:/bin/sh\nsystemd-network:x:998:998::/:/bin/false\nmessagebus:x:997:997::/:/bin/false\nnobody:x:65534:65534:nobody:/:/bin/false\n"},
		{"etc/group", "root:x:0:\ntty:x:5:\nsystemd-network:x:998:\nmessagebus:x:997:\nnogroup:x:65534:\n"},
		{"etc/os-release", "NAME=\"lupatch lab host\"\nID=lupatch-lab\n"},
		{"etc/profile", "PS1='lab# '\n"},
	}
	for _, f := range files {
		if w.Has(f.name) {
			continue // of a package
		}
		if err := w.File(f.name, 0o644, []byte(f.text)); err != nil {
			return err
		}
	}
	return nil
}

func addFiles(_ context.Context, w *cpio.Writer, c *Config) error {
	for _, f := range c.Files {
		data, mode := f.Data, f.Mode
		if f.Host != "" {
			info, err := os.Stat(f.Host)
			if err != nil {
				return err
			}
			if data, err = os.ReadFile(f.Host); err != nil {
				return err
			}
			if mode == 0 {
				mode = info.Mode()
			}
		}
		if mode == 0 {
			mode = 0o644
		}
		if err := w.File(f.Path, uint32(mode.Perm()), data); err != nil {
			return err
		}
	}
	return nil
}

// prepare finds the kernel and the cache.
func (c *Config) prepare(ctx context.Context) error {
	if c.Cache == nil {
		cache, err := deb.New("")
		if err != nil {
			return err
		}
		cache.Progress = c.Progress
		c.Cache = cache
	}
	if err := c.findKernel(ctx); err != nil {
		return err
	}
	tree, err := kmodule.Open(c.Kernel.Modules())
	if err != nil {
		return err
	}
	// Two packages of one release may differ, so the folder is part of the name.
	where := strings.NewReplacer("/", "_").Replace(strings.TrimPrefix(c.Kernel.Modules(), c.Cache.Root))
	tree.AliasCache = filepath.Join(c.Cache.Root, "aliases", where)
	for _, m := range agentModules {
		c.SerialAgent = c.SerialAgent || !tree.Has(m) && !tree.Builtin(m)
	}
	c.tree = tree
	return nil
}

// agentModules drive the agent's virtio port.
var agentModules = []string{"virtio_pci", "virtio_console"}

func (c *Config) findKernel(ctx context.Context) error {
	if c.Kernel != nil {
		return nil
	}
	if c.Release == "" {
		release, err := DefaultKernel(ctx, c.Cache)
		if err != nil {
			return err
		}
		c.Release = release
	}
	if c.Release == DebugKernel {
		return c.findDebugKernel(ctx)
	}
	k, err := c.Cache.KernelImage(ctx, c.Release)
	if err != nil {
		return fmt.Errorf("finding the kernel of the lab host: %w", err)
	}
	c.Kernel = k
	return nil
}
