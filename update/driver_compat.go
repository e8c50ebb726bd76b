// SPDX-License-Identifier: Apache-2.0

package update

import (
	"context"
	"fmt"
	"slices"

	"github.com/lupatch/lupatch/shadow/compat"
)

// fits holds the driver that runs, the new one and the host against each other, from
// files and from what the kernel tells: nothing is touched. It gives the parameters
// that the new driver is loaded with.
func (x *exchange) fits(ctx context.Context) (params string, err error) {
	k := x.h.Kernel
	from, err := compat.NewImage("", x.fromImage)
	if err != nil {
		return "", err
	}
	to, err := compat.NewImage("", x.image)
	if err != nil {
		return "", err
	}
	facts, on, err := compat.Host(ctx, k, x.module(), compat.HostOptions{Untested: x.opt.Untested})
	if err != nil {
		return "", err
	}
	if err := compat.Refusal(on); err != nil {
		return "", err
	}
	target, err := compat.ReadTarget(k, from)
	if err != nil {
		return "", err
	}
	between, err := compat.Check(from, to, target)
	if err != nil {
		return "", err
	}
	if err := compat.Refusal(between); err != nil {
		return "", err
	}
	for _, f := range append(on, between...) {
		x.result.Warnings = append(x.result.Warnings, fmt.Sprintf("%s: %s", f.Where, f.Detail))
	}
	if x.needs, err = target.Needs(to); err != nil {
		return "", err
	}
	x.firmware = map[string]string{}
	for _, name := range to.Info.Firmware {
		if file := target.FirmwareFile(name); file != "" {
			x.firmware[name] = file
		}
	}
	// What is in memory by then is held; the old driver's own files are not.
	missing := slices.DeleteFunc(target.FromDisk(from), func(name string) bool { return x.firmware[name] != "" })
	root, err := compat.CheckRoot(k, facts, missing)
	if err != nil {
		return "", err
	}
	if err := compat.Refusal(root); err != nil {
		return "", err
	}
	x.from.Params = target.ParamString(from)
	return target.ParamString(to), nil
}
