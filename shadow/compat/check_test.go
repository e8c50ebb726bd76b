// SPDX-License-Identifier: Apache-2.0

package compat

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/lupatch/lupatch/internal/refuse"
	"github.com/lupatch/lupatch/kpatch/kpatchtest"
)

const modules = "/lib/modules/" + kpatchtest.Release

// old is the driver that runs on the fabricated host.
func old() kpatchtest.Driver {
	return kpatchtest.Driver{
		Name: "e1000", Release: kpatchtest.Release,
		Info:    []string{"alias=pci:v00008086d0000100Esv*sd*bc*sc*i*", "parmtype=debug:int", "parmtype=copybreak:uint", "parmtype=Speed:array of int", "depends="},
		Imports: map[string]uint32{"alloc_etherdev_mqs": 11, "_printk": 12},
	}
}

// checked is the target with the old driver running, and its image.
func (h *host) target() (*Target, *Image) {
	h.t.Helper()
	h.put(modules+"/kernel/drivers/net/e1000.ko", string(old().Image()))
	h.put(modules+"/modules.dep", "kernel/drivers/net/e1000.ko:\n")
	h.put(modules+"/build/Module.symvers", "0x0000000b\talloc_etherdev_mqs\tvmlinux\tEXPORT_SYMBOL\t\n0x0000000c\t_printk\tvmlinux\tEXPORT_SYMBOL\t\n0x0000000d\tmii_check_link\tdrivers/net/mii\tEXPORT_SYMBOL\t\n")
	i, err := Shipped(h.k, "e1000")
	if err != nil {
		h.t.Fatal(err)
	}
	t, err := ReadTarget(h.k, i)
	if err != nil {
		h.t.Fatal(err)
	}
	return t, i
}

func TestCheck(t *testing.T) {
	with := func(alter func(*kpatchtest.Driver)) kpatchtest.Driver {
		d := old()
		d.Salt = "new"
		if alter != nil {
			alter(&d)
		}
		return d
	}
	for name, c := range map[string]struct {
		new     kpatchtest.Driver
		prepare func(*host)
		id      refuse.ID // "": accepted
		want    string    // of the reason, or of a note
	}{
		"newer":          {with(nil), nil, "", ""},
		"the same":       {old(), nil, "", "runs already"},
		"another module": {with(func(d *kpatchtest.Driver) { d.Name = "e1000e" }), nil, refuse.DriverIncompatible, "another module than e1000"},
		"vermagic":       {with(func(d *kpatchtest.Driver) { d.Release = "6.1.0-50-amd64" }), nil, refuse.DriverIncompatible, "for the kernel \"6.1.0-50-amd64"},
		"symbol missing": {with(func(d *kpatchtest.Driver) { d.Imports["no_such"] = 1 }), nil, refuse.DriverIncompatible, "does not export: no_such"},
		"symbol differs": {with(func(d *kpatchtest.Driver) { d.Imports["_printk"] = 99 }), nil, refuse.DriverIncompatible, "_printk (0x00000063, here 0x0000000c)"},
		"id lost":        {with(func(d *kpatchtest.Driver) { d.Info[0] = "alias=pci:v00008086d00001000sv*sd*bc*sc*i*" }), nil, refuse.DriverIncompatible, "does not claim it any more"},
		"bound by hand": {with(nil), func(h *host) {
			h.put("/sys/"+nic+"/modalias", "pci:v00001234d00005678sv*")
		}, refuse.DriverIncompatible, "bound by hand"},
		"parameter lost, set": {with(func(d *kpatchtest.Driver) { d.Info = slices.Delete(d.Info, 3, 4) }), func(h *host) {
			h.put("/etc/modprobe.d/net.conf", "# speed\noptions e1000 \\\n Speed=100,10\n")
		}, refuse.DriverIncompatible, `set to "100,10" by`},
		"parameter lost, default": {with(func(d *kpatchtest.Driver) { d.Info = slices.Delete(d.Info, 2, 3) }), func(h *host) {
			h.put("/sys/module/e1000/parameters/copybreak", "256\n")
		}, "", `has no such parameter, which now is "256"`},
		"page pool": {with(func(d *kpatchtest.Driver) { d.Imports["page_pool_create"] = 0 }), func(h *host) {
			h.export("page_pool_create", 0)
			h.put("/sys/"+nic+"/iommu_group/type", "DMA-FQ\n")
		}, refuse.DriverPagePool, "DMA-FQ"},
		"page pool without IOMMU": {with(func(d *kpatchtest.Driver) { d.Imports["page_pool_create"] = 0 }), func(h *host) {
			h.export("page_pool_create", 0)
			h.put("/sys/"+nic+"/iommu_group/type", "identity\n")
		}, "", ""},
		"devlink":    {with(func(d *kpatchtest.Driver) { d.Imports["devlink_alloc_ns"] = 0 }), func(h *host) { h.export("devlink_alloc_ns", 0) }, refuse.DriverUses, "the new one: it has a devlink instance"},
		"auxiliary":  {with(func(d *kpatchtest.Driver) { d.Imports["auxiliary_device_init"] = 0 }), func(h *host) { h.export("auxiliary_device_init", 0) }, refuse.DriverUses, "auxiliary devices"},
		"dependency": {with(func(d *kpatchtest.Driver) { d.Info[4] = "depends=mii" }), nil, refuse.DriverIncompatible, "needs the module mii, which is neither loaded nor installed"},
		"dependency to load": {with(func(d *kpatchtest.Driver) {
			d.Info[4] = "depends=mii"
			d.Imports["mii_check_link"] = 13
		}), func(h *host) {
			mii := kpatchtest.Driver{Name: "mii", Release: kpatchtest.Release, Exports: []string{"mii_check_link"}}
			h.put(modules+"/kernel/drivers/net/mii.ko", string(mii.Image()))
		}, "", "needs the module mii, which is loaded first"},
		"firmware": {with(func(d *kpatchtest.Driver) { d.Info = append(d.Info, "firmware=e1000/a.bin", "firmware=e1000/b.bin") }), func(h *host) {
			h.put("/lib/firmware/e1000/a.bin.xz", "")
		}, "", "not installed: e1000/b.bin"},
	} {
		h := newHost(t)
		if c.prepare != nil {
			c.prepare(h)
		}
		target, running := h.target()
		l, err := Check(running, image(t, c.new), target)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		var all []string
		for _, f := range l {
			all = append(all, f.Detail)
		}
		got := reasons(l)
		switch {
		case c.id == "" && len(got) > 0:
			t.Errorf("%s: refused: %q", name, got)
		case c.id != "" && (len(got) != 1 || !strings.HasPrefix(got[0], string(c.id))):
			t.Errorf("%s: %q, want %s", name, got, c.id)
		case !strings.Contains(strings.Join(all, "\n"), c.want):
			t.Errorf("%s: %q, want %q", name, all, c.want)
		}
	}
}

// export lets the fabricated kernel export a symbol; it is put behind what target
// writes, by a module that runs.
func (h *host) export(name string, crc uint32) {
	h.AddModule("helper", kpatchtest.BuildID("helper"))
	m := kpatchtest.Driver{Name: "helper", Release: kpatchtest.Release, Exports: []string{name}, Imports: map[string]uint32{name: crc}}
	h.put(modules+"/kernel/helper.ko", string(m.Image()))
}

func TestParams(t *testing.T) {
	h := newHost(t)
	h.put("/sys/module/e1000/parameters/debug", "-1\n")
	h.put("/sys/module/e1000/parameters/copybreak", "128\n")
	h.put("/sys/module/e1000/parameters/name", "(null)\n")
	h.put("/proc/cmdline", "quiet e1000.Speed=1000 e1000e.debug=7 \"e1000.text=two words\"\n")
	h.put("/etc/modprobe.d/a.conf", "options e1000 Speed=10 text=x copybreak=256\noptions other debug=2\n")
	h.put("/lib/modprobe.d/a.conf", "options e1000 hidden=1\n")
	target, _ := h.target()
	d := old()
	d.Info = append(d.Info, "parmtype=text:charp")
	// Where sysfs shows a value, it is that; elsewhere the last word counts.
	if got, want := target.ParamString(image(t, d)), `copybreak=128 debug=-1 text="two words"`; !sameWords(got, want) {
		t.Errorf("%q, want %q and Speed", got, want)
	}
	if p := fmt.Sprint(target.Params); strings.Contains(p, "hidden") || strings.Contains(p, "null") {
		t.Error(p)
	}
}

// sameWords compares without order, and asks for Speed=1000 besides.
func sameWords(got, want string) bool {
	a, b := words(got), append(words(want), "Speed=1000")
	slices.Sort(a)
	slices.Sort(b)
	return slices.Equal(a, b)
}

func TestShipped(t *testing.T) {
	h := newHost(t)
	if _, err := Shipped(h.k, "e1000"); !refusedAs(err, refuse.DriverFile, "no file of it") {
		t.Error(err)
	}
	newer := old()
	newer.Salt = "package updated"
	h.put(modules+"/kernel/drivers/net/e1000.ko", string(newer.Image()))
	if _, err := Shipped(h.k, "e1000"); !refusedAs(err, refuse.DriverFile, "none of its 1 files") {
		t.Error(err)
	}
	// A committed driver, or one that is kept, is what runs.
	kept := t.TempDir()
	if err := os.WriteFile(kept+"/e1000.ko", old().Image(), 0o600); err != nil {
		t.Fatal(err)
	}
	if i, err := Shipped(h.k, "e1000", kept); err != nil || i.Path != kept+"/e1000.ko" {
		t.Errorf("%+v, %v", i, err)
	}
	h.put(modules+"/"+UpdatesDir+"/e1000.ko", string(old().Image()))
	if i, err := Shipped(h.k, "e1000"); err != nil || !strings.HasSuffix(i.Path, UpdatesDir+"/e1000.ko") {
		t.Errorf("%+v, %v", i, err)
	}
	if _, err := Shipped(h.k, "igb"); !refusedAs(err, refuse.DriverNotLoaded, "not loaded") {
		t.Error(err)
	}
}

func refusedAs(err error, id refuse.ID, text string) bool {
	e, ok := refuse.As(err)
	return ok && e.ID == id && strings.Contains(e.Error(), text)
}

// Without headers and image there is what loaded modules and /proc/kallsyms show.
func TestExportsOfRunning(t *testing.T) {
	h := newHost(t)
	_, running := h.target()
	if err := os.RemoveAll(h.k.Path(modules, "build")); err != nil {
		t.Fatal(err)
	}
	h.put("/proc/kallsyms", "ffffffff81000000 r __ksymtab_dev_close\nffffffff81000010 T dev_close\n")
	target, err := ReadTarget(h.k, running)
	if err != nil {
		t.Fatal(err)
	}
	d := old()
	d.Salt = "new"
	d.Imports["dev_close"] = 5
	l, err := Check(running, image(t, d), target)
	if err != nil || len(reasons(l)) > 0 || len(l) != 1 || !strings.Contains(l[0].Detail, "the kernel will: dev_close (according to /proc/kallsyms") {
		t.Errorf("%v, %+v", err, l)
	}
	d.Imports["no_such"], d.Imports["_printk"] = 6, 7
	l, err = Check(running, image(t, d), target)
	if got := strings.Join(reasons(l), "\n"); err != nil || !strings.Contains(got, "no_such") || !strings.Contains(got, "_printk (0x00000007") {
		t.Errorf("%v, %q", err, got)
	}
}
