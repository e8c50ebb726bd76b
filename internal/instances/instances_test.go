// SPDX-License-Identifier: Apache-2.0

package instances_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lupatch/lupatch/internal/instances"
	"github.com/lupatch/lupatch/internal/manifest"
)

// host writes a sysfs: paths that end in @ are links, others files with what
// stands behind the =.
func host(t *testing.T, entries ...string) string {
	t.Helper()
	root := t.TempDir()
	for _, e := range entries {
		name, text, _ := strings.Cut(e, "=")
		path := filepath.Join(root, "sys", strings.TrimSuffix(name, "@"))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		var err error
		if strings.HasSuffix(name, "@") {
			err = os.Symlink("../somewhere", path)
		} else {
			err = os.WriteFile(path, []byte(text+"\n"), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return root
}

var probe = manifest.Function{Name: "net_probe", Effect: manifest.EffectNextProbe, Drivers: []string{"net"}}

func TestOf(t *testing.T) {
	root := host(t,
		"module/net/initstate=live", "module/net/drivers/pci:net@", "module/net/drivers/pci:other@",
		"bus/pci/drivers/net/0000:00:03.0@", "bus/pci/drivers/net/0000:00:04.0@", "bus/pci/drivers/net/module@", "bus/pci/drivers/net/new_id=x",
		"bus/pci/drivers/other/0000:00:05.0@",
		"module/net/parameters/limit=7", "module/net/parameters/evil=a\x1b[2Jb", "module/printk/parameters/time=Y",
		"bus/platform/drivers/clock/clock.0@", "bus/platform/drivers/cl*ck/x@", "bus/pci/drivers/idle/bind=",
		"bus/usb/drivers/clock/1-1:1.0@", "bus/usb/drivers/clock/module/initstate=live",
	)
	for _, c := range []struct {
		name string
		unit manifest.Unit
		want string
	}{
		{"devices of one driver", manifest.Unit{Name: "net", Functions: []manifest.Function{probe}},
			"net_probe has already run for: 0000:00:03.0, 0000:00:04.0 (driver net); unbind a device and bind it again to have it probed by the new code"},
		{"of all, if it is not known which", manifest.Unit{Name: "net", Functions: []manifest.Function{{Name: "p", Effect: manifest.EffectNextProbe}}},
			"p has already run for: 0000:00:03.0, 0000:00:04.0, 0000:00:05.0; unbind a device and bind it again to have it probed by the new code"},
		{"of the kernel", manifest.Unit{Name: "vmlinux", Functions: []manifest.Function{{Name: "p", Effect: manifest.EffectNextProbe, Drivers: []string{"clock", "idle"}}}},
			"p has already run for: clock.0 (driver clock); unbind a device and bind it again to have it probed by the new code"},
		{"a name with a star", manifest.Unit{Name: "vmlinux", Functions: []manifest.Function{{Name: "p", Effect: manifest.EffectNextProbe, Drivers: []string{"cl*ck"}}}},
			"p has already run for: x (driver cl*ck); unbind a device and bind it again to have it probed by the new code"},
		{"freed", manifest.Unit{Name: "net", AlreadyRan: []string{"start"}},
			"start has already run for: module net, which is loaded"},
		{"freed, of the kernel", manifest.Unit{Name: "vmlinux", AlreadyRan: []string{"start"}},
			"start has already run for: this boot"},
		{"not freed", manifest.Unit{Name: "net", Functions: []manifest.Function{{Name: "start", Effect: manifest.EffectNever}}},
			"start has already run for: module net, which is loaded"},
		{"parameters", manifest.Unit{Name: "net", Functions: []manifest.Function{
			{Name: "set", Effect: manifest.EffectNow, Params: []string{"limit", "hidden"}}, {Name: "fixed", Effect: manifest.EffectNever, Params: []string{"limit"}}}},
			"set has already run for: parameter limit=7, parameter hidden; write the parameter again to have the new code run\n" +
				"fixed has already run for: parameter limit=7; the new code will when net is loaded again"},
		{"parameters of the kernel", manifest.Unit{Name: "vmlinux", Functions: []manifest.Function{{Name: "set", Effect: manifest.EffectNow, Params: []string{"printk.time"}}}},
			"set has already run for: parameter printk.time=Y; write the parameter again to have the new code run"},
		{"a value that is no text", manifest.Unit{Name: "net", Functions: []manifest.Function{{Name: "set", Effect: manifest.EffectNow, Params: []string{"evil"}}}},
			"set has already run for: parameter evil=a?[2Jb; write the parameter again to have the new code run"},
		{"a default", manifest.Unit{Name: "net", Data: []manifest.Data{{Name: "limit", Param: "limit"}, {Name: "plain"}}},
			"the initial value of limit was set before: parameter limit=7"},
		{"nothing of it", manifest.Unit{Name: "net", Functions: []manifest.Function{{Name: "f", Effect: manifest.EffectNow}}}, ""},
		{"no device", manifest.Unit{Name: "vmlinux", Functions: []manifest.Function{{Name: "p", Effect: manifest.EffectNextProbe, Drivers: []string{"idle", "absent"}}}}, ""},
		{"a module that is not there", manifest.Unit{Name: "gone", AlreadyRan: []string{"start"}, Functions: []manifest.Function{probe}}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			points, err := instances.Of(root, &manifest.Manifest{Units: []manifest.Unit{c.unit}})
			if err != nil {
				t.Fatal(err)
			}
			var lines []string
			for _, p := range points {
				lines = append(lines, p.String())
			}
			if d := cmp.Diff(c.want, strings.Join(lines, "\n")); d != "" {
				t.Errorf("-want +got\n%s", d)
			}
		})
	}
}

func TestManyDevices(t *testing.T) {
	var p instances.Point
	for _, n := range strings.Split("a b c d e f g h i j k", " ") {
		p.Devices = append(p.Devices, instances.Device{Name: n, Driver: "x"})
	}
	p.Function = "f"
	if s := p.String(); !strings.HasPrefix(s, "f has already run for: a, b, c, d, e, f, g, h, and 3 more (driver x);") {
		t.Error(s)
	}
}

func TestUnreadable(t *testing.T) {
	root := host(t, "module/net/drivers=a file")
	if p, err := instances.Of(root, &manifest.Manifest{Units: []manifest.Unit{{Name: "net", Functions: []manifest.Function{probe}}}}); err == nil {
		t.Errorf("no error, but %v", p)
	}
}
