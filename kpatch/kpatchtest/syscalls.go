// SPDX-License-Identifier: Apache-2.0

package kpatchtest

import (
	"bytes"
	"debug/elf"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/lupatch/lupatch/internal/manifest"
)

// InitModule loads a livepatch module that carries a manifest.
func (k *Kernel) InitModule(image []byte, params string) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if s := k.read("/fake/fail"); s != "" {
		num, lines, _ := strings.Cut(s, "\n")
		for line := range strings.Lines(lines) {
			k.Log("%s", strings.TrimSpace(line))
		}
		if n, _ := strconv.Atoi(num); n != 0 {
			return syscall.Errno(n)
		}
	}
	f, err := elf.NewFile(bytes.NewReader(image))
	if err != nil {
		return syscall.ENOEXEC
	}
	data := func(name string) []byte {
		if s := f.Section(name); s != nil {
			b, _ := s.Data()
			return b
		}
		return nil
	}
	this := data(".gnu.linkonce.this_module")
	if len(this) < 80 {
		return syscall.ENOEXEC
	}
	name, _, _ := strings.Cut(string(this[24:80]), "\x00")
	_, magic, _ := strings.Cut(string(data(".modinfo")), "vermagic=")
	if release := k.read("/proc/sys/kernel/osrelease"); !strings.HasPrefix(magic, release+" ") {
		k.Log("%s: version magic '%.20s' should be '%s SMP preempt mod_unload modversions '", name, magic, release)
		return syscall.ENOEXEC
	}
	if k.exists("/sys/module/" + name) {
		return syscall.EEXIST
	}
	if k.transition() != "" {
		return syscall.EBUSY
	}
	content := data(manifest.Section)
	m, err := manifest.Decode(content[:max(0, len(content)-64)])
	if err != nil {
		return syscall.EINVAL
	}
	k.AddModule(name, hexNote(data(".note.gnu.build-id")))
	if len(m.Escapes) > 0 {
		k.write("/fake/permanent/"+name, "")
	}
	k.Log("livepatch: enabling patch '%s'", name)
	for _, u := range m.Units {
		var fns []string
		for _, fn := range u.Functions {
			if !fn.New {
				fns = append(fns, fn.Name)
			}
		}
		k.addLivepatch(name, u.Name, fns)
	}
	k.write("/sys/module/"+name+"/refcnt", "1\n")
	k.start(name)
	return nil
}

// hexNote gives the build id out of a note that ELF wrote.
func hexNote(b []byte) string {
	if len(b) < 16 {
		return ""
	}
	return fmt.Sprintf("%x", b[16:])
}

// DeleteModule unloads a module as delete_module(2) would.
func (k *Kernel) DeleteModule(name string) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	switch {
	case !k.exists("/sys/module/" + name):
		return syscall.ENOENT
	case k.exists("/fake/permanent/" + name):
		return syscall.EBUSY
	case k.read("/sys/module/"+name+"/refcnt") != "0":
		return syscall.EWOULDBLOCK
	}
	k.RemoveModule(name)
	return nil
}

// WriteFile writes an attribute; enabled and force of a livepatch act as
// enabled_store and force_store of kernel/livepatch/core.c.
func (k *Kernel) WriteFile(path string, data []byte) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if _, err := os.Stat(path); err != nil {
		return err
	}
	dir := filepath.Dir(path)
	name := filepath.Base(dir)
	if dir == k.path("/sys/kernel/livepatch", name) && filepath.Base(path) == "force" {
		return k.force(name)
	}
	if dir != k.path("/sys/kernel/livepatch", name) || filepath.Base(path) != "enabled" {
		return os.WriteFile(path, data, 0o644)
	}
	value := strings.TrimSpace(string(data))
	if value == k.read("/sys/kernel/livepatch/"+name+"/enabled") {
		return syscall.EINVAL
	}
	switch other := k.transition(); {
	case other == name:
		k.Log("livepatch: '%s': reversing transition", name)
	case value == "1":
		return syscall.EINVAL
	case other != "":
		return syscall.EBUSY
	}
	k.write("/sys/kernel/livepatch/"+name+"/enabled", value+"\n")
	k.start(name)
	return nil
}

// force moves every task.
func (k *Kernel) force(name string) error {
	if k.transition() != name {
		return syscall.EINVAL
	}
	k.Log("livepatch: forcing remaining tasks to the patched state")
	for _, pid := range k.pids() {
		k.write("/proc/"+pid+"/task/"+pid+"/patch_state", k.read("/sys/kernel/livepatch/"+name+"/enabled")+"\n")
	}
	k.advance()
	return nil
}

// transition is the livepatch that is in transition.
func (k *Kernel) transition() string {
	entries, err := os.ReadDir(k.path("/sys/kernel/livepatch"))
	must(err)
	for _, e := range entries {
		if k.read("/sys/kernel/livepatch/"+e.Name()+"/transition") == "1" {
			return e.Name()
		}
	}
	return ""
}

// start begins a transition, or turns one round, to what enabled says. Every
// task begins on the other side; one that is sticky stays where it is.
func (k *Kernel) start(name string) {
	dir := "/sys/kernel/livepatch/" + name
	begins := k.read(dir+"/transition") != "1"
	k.write(dir+"/transition", "1\n")
	old := "1\n"
	if k.read(dir+"/enabled") == "1" {
		old = "0\n"
	}
	for _, pid := range k.pids() {
		if begins {
			k.write("/proc/"+pid+"/task/"+pid+"/patch_state", old)
		}
	}
	k.advance()
}

// advance moves every task that can move and ends the transition if all have.
func (k *Kernel) advance() {
	name := k.transition()
	if name == "" {
		return
	}
	dir := "/sys/kernel/livepatch/" + name
	target := k.read(dir + "/enabled")
	left := 0
	for _, pid := range k.pids() {
		file := "/proc/" + pid + "/task/" + pid + "/patch_state"
		if k.read(file) == target {
			continue
		}
		if k.exists("/fake/sticky/" + pid) {
			left++
			continue
		}
		k.write(file, target+"\n")
	}
	if left > 0 {
		return
	}
	for _, pid := range k.pids() {
		k.write("/proc/"+pid+"/task/"+pid+"/patch_state", "-1\n")
	}
	k.write(dir+"/transition", "0\n")
	if target == "0" {
		must(os.RemoveAll(k.path(dir)))
		k.write("/sys/module/"+name+"/refcnt", "0\n")
		k.Log("livepatch: '%s': unpatching complete", name)
		return
	}
	k.Log("livepatch: '%s': patching complete", name)
}
