// SPDX-License-Identifier: Apache-2.0

package build

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/lupatch/lupatch/internal/elfobj"
	"github.com/lupatch/lupatch/internal/refuse"
	"github.com/lupatch/lupatch/patchgen"
)

// explainLayout adds to the refusal of a changed structure who uses it, as far
// as this build compiled it, and what can be done in the unit concerned.
func (j *job) explainLayout(units []*unit, u *unit, e *refuse.Error) error {
	var b strings.Builder
	b.WriteString(e.Help)
	fmt.Fprintf(&b, "\nFunctions that use %s, of the files of this patch:\n", e.Where)
	for _, v := range units {
		obj, err := os.ReadFile(v.newPath)
		if err != nil {
			return err
		}
		users, err := patchgen.LayoutUsers(obj, e.Where)
		if err != nil {
			return fmt.Errorf("reading types of %s: %w", v.tu.Source, err)
		}
		const show = 12
		if n := len(users); n > show {
			users = append(users[:show], fmt.Sprintf("and %d more", n-show))
		}
		if len(users) > 0 {
			fmt.Fprintf(&b, "  %s (%s): %s\n", v.tu.Source, v.tu.Unit, strings.Join(users, ", "))
		}
	}
	b.WriteString("\n" + j.replaceable(u.tu.Unit))
	e.Help = b.String()
	e.Remedy = "keep the layout and put new fields into a shadow variable (code below), or bring instances to the new form in a callback (KPATCH_PRE_PATCH_CALLBACK)"
	return e
}

// driverClasses are the classes of drivers for which replacement as a whole is
// designed, by functions that only such drivers call.
var driverClasses = []struct {
	class string
	calls []string
}{
	{"network", []string{"alloc_etherdev_mqs", "alloc_netdev_mqs", "register_netdev", "register_netdevice"}},
	{"block", []string{"device_add_disk", "__blk_mq_alloc_disk", "__blk_alloc_disk"}},
	{"sound", []string{"snd_card_new", "snd_devm_card_new", "snd_card_register"}},
}

// driverClass is the class of a module; empty for any other.
func driverClass(m *elfobj.File) string {
	for _, c := range driverClasses {
		if slices.ContainsFunc(m.Symbols, func(y *elfobj.Symbol) bool { return y.Undefined() && slices.Contains(c.calls, y.Name) }) {
			return c.class
		}
	}
	return ""
}

// replaceable says whether the unit could be replaced as a whole.
func (j *job) replaceable(unit string) string {
	m := j.modules[unit]
	if m == nil {
		return "The kernel itself cannot be replaced as a whole: a layout change there needs a boot.\n"
	}
	if class := driverClass(m.obj); class != "" {
		return fmt.Sprintf("%s is a %s driver. Replacing drivers of that class as a whole, layout changes included, is\nplanned (--method driver) and not in this version of lupatch.\n", unit, class)
	}
	return fmt.Sprintf("%s is not a network, block or sound driver: modules of other kinds cannot be replaced as a whole.\n", unit)
}
