// SPDX-License-Identifier: Apache-2.0

// Package kpatchtest is a fake kernel for tests: a directory with the parts of
// /sys, /proc and /dev that package kpatch reads, and system calls that act on
// it as Linux 6.1 does, transitions included. Its whole state is in the
// directory, so that several processes can use one after the other.
package kpatchtest

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Kernel is a fake kernel; it implements kpatch.Syscalls.
type Kernel struct {
	// Root is its directory.
	Root string
	mu   sync.Mutex
}

// New opens the fake kernel in the directory root, and makes it first if it is
// empty: release Release, vmlinux and the module e1000 with build ids of
// BuildID, and one task. Errors of the file system are panics.
func New(root string) *Kernel {
	k := &Kernel{Root: root}
	if k.exists("/fake") {
		return k
	}
	k.boot(Release)
	return k
}

func (k *Kernel) boot(release string) {
	k.mkdir("/sys/kernel/livepatch")
	k.mkdir("/fake/sticky")
	k.write("/proc/sys/kernel/osrelease", release+"\n")
	k.write("/proc/cmdline", "root=/dev/sda1 quiet\n")
	k.write("/proc/uptime", "5000.25 9000.50\n")
	k.write(bootID, "1\n")
	k.write("/sys/kernel/notes", note(BuildID("vmlinux")))
	k.write("/proc/modules", "")
	k.write("/dev/kmsg", "")
	k.Taint(0)
	k.AddModule("e1000", BuildID("e1000"))
	k.AddTask(Task{PID: 1, Comm: "systemd", Stack: []string{"do_epoll_wait", "__x64_sys_epoll_wait", "entry_SYSCALL_64_after_hwframe"}})
}

func (k *Kernel) path(elem ...string) string {
	return filepath.Join(append([]string{k.Root}, elem...)...)
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

func (k *Kernel) mkdir(dir string) { must(os.MkdirAll(k.path(dir), 0o755)) }

func (k *Kernel) write(file, content string) {
	k.mkdir(filepath.Dir(file))
	must(os.WriteFile(k.path(file), []byte(content), 0o644))
}

func (k *Kernel) read(file string) string {
	b, err := os.ReadFile(k.path(file))
	if errors.Is(err, fs.ErrNotExist) {
		return ""
	}
	must(err)
	return strings.TrimSpace(string(b))
}

func (k *Kernel) exists(file string) bool {
	_, err := os.Stat(k.path(file))
	return err == nil
}

// Log prints to the kernel log.
func (k *Kernel) Log(format string, args ...any) {
	f, err := os.OpenFile(k.path("/dev/kmsg"), os.O_APPEND|os.O_WRONLY, 0)
	must(err)
	defer f.Close()
	_, err = fmt.Fprintf(f, "6,1,1000,-;%s\n SUBSYSTEM=fake\n", fmt.Sprintf(format, args...))
	must(err)
}

// Taint sets the kernel's taint flags.
func (k *Kernel) Taint(flags uint64) { k.write("/proc/sys/kernel/tainted", fmt.Sprintf("%d\n", flags)) }

func note(id string) string {
	raw, err := hex.DecodeString(id)
	must(err)
	b := binary.LittleEndian.AppendUint32(nil, 4)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(raw)))
	b = binary.LittleEndian.AppendUint32(b, 3)
	return string(b) + "GNU\x00" + string(raw)
}

// bootID is where the number of the boot is.
const bootID = "/proc/sys/kernel/random/boot_id"

// Reboot leaves the files of the host and nothing else: what was loaded is gone. The
// kernel that boots has this release and these words on its command line.
func (k *Kernel) Reboot(release string, words ...string) {
	n, err := strconv.Atoi(k.read(bootID))
	must(err)
	for _, dir := range []string{"/sys", "/proc", "/dev", "/fake"} {
		must(os.RemoveAll(k.path(dir)))
	}
	k.boot(release)
	k.write(bootID, fmt.Sprintln(n+1))
	k.write("/proc/cmdline", strings.Join(words, " ")+"\n")
	k.SetUptime(20 * time.Second)
}

// SetUptime sets how long ago the kernel has booted.
func (k *Kernel) SetUptime(d time.Duration) {
	k.write("/proc/uptime", fmt.Sprintf("%.2f 1.00\n", d.Seconds()))
}

// AddModule puts a module in memory, without a transition or a check.
func (k *Kernel) AddModule(name, buildID string) {
	k.write("/proc/modules", name+" 16384 0 - Live 0x0000000000000000\n"+k.modules())
	k.write("/sys/module/"+name+"/refcnt", "0\n")
	if buildID != "" {
		k.write("/sys/module/"+name+"/notes/.note.gnu.build-id", note(buildID))
	}
}

// Bind gives a module a driver on the PCI bus, with devices.
func (k *Kernel) Bind(module, driver string, devices ...string) {
	k.mkdir("sys/module/" + module + "/drivers")
	k.mkdir("sys/bus/pci/drivers/" + driver)
	must(os.Symlink("../../../bus/pci/drivers/"+driver, k.path("sys/module", module, "drivers/pci:"+driver)))
	must(os.Symlink("../../../../module/"+module, k.path("sys/bus/pci/drivers", driver, "module")))
	k.write("sys/module/"+module+"/initstate", "live\n")
	for _, d := range devices {
		k.mkdir("sys/devices/pci0000:00/" + d)
		must(os.Symlink("../../../bus/pci/drivers/"+driver, k.path("sys/devices/pci0000:00", d, "driver")))
		must(os.Symlink("../../../bus/pci", k.path("sys/devices/pci0000:00", d, "subsystem")))
		must(os.Symlink("../../../../devices/pci0000:00/"+d, k.path("sys/bus/pci/drivers", driver, d)))
	}
}

func (k *Kernel) modules() string {
	b, err := os.ReadFile(k.path("/proc/modules"))
	must(err)
	return string(b)
}

// RemoveModule takes a module out of memory without a check.
func (k *Kernel) RemoveModule(name string) {
	var left strings.Builder
	for line := range strings.Lines(k.modules()) {
		if !strings.HasPrefix(line, name+" ") {
			left.WriteString(line)
		}
	}
	k.write("/proc/modules", left.String())
	must(os.RemoveAll(k.path("/sys/module", name)))
}

// AddForeign puts a livepatch that is not lupatch's in the kernel, enabled: its
// module name replaces functions of object.
func (k *Kernel) AddForeign(name, object string, functions ...string) {
	k.AddModule(name, BuildID("foreign "+name))
	k.addLivepatch(name, object, functions)
	k.write("/sys/module/"+name+"/refcnt", "1\n")
}

func (k *Kernel) addLivepatch(name, object string, functions []string) {
	dir := "/sys/kernel/livepatch/" + name
	k.write(dir+"/enabled", "1\n")
	k.write(dir+"/transition", "0\n")
	k.write(dir+"/force", "")
	for _, f := range functions {
		k.mkdir(dir + "/" + object + "/" + f + ",1")
	}
	patched := "1\n"
	if object != "vmlinux" && !k.exists("/sys/module/"+object) {
		patched = "0\n"
	}
	k.write(dir+"/"+object+"/patched", patched)
}

// FailLoad makes every further load fail with errno after the lines were
// printed to the kernel log; errno 0 ends that.
func (k *Kernel) FailLoad(errno syscall.Errno, lines ...string) {
	k.write("/fake/fail", fmt.Sprintf("%d\n%s", int(errno), strings.Join(lines, "\n")))
}
