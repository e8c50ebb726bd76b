// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/lupatch/lupatch/internal/build"
	"github.com/lupatch/lupatch/internal/kbuild"
	"github.com/lupatch/lupatch/internal/lab"
	"github.com/lupatch/lupatch/internal/lab/debugkernel"
	"github.com/lupatch/lupatch/shadow/shadowtest"
	"github.com/lupatch/lupatch/update"
)

// host is a booted lab host with everything in it.
type host struct {
	*lab.Host
	r     one
	files []string // of the versions, in the guest
}

// sources are where the kernel's modules are compiled against.
func (r *one) sources(ctx context.Context) (kernel string, opt kbuild.Options, err error) {
	if !r.debug {
		return release, kbuild.Options{Release: release}, nil
	}
	k, err := debugkernel.Open(ctx, debugkernel.Options{})
	if err != nil {
		return "", opt, err
	}
	return k.Build, kbuild.Options{Dir: k.Build}, nil
}

func (r *one) boot(ctx context.Context, o options) (*host, error) {
	kernel, opt, err := r.sources(ctx)
	if err != nil {
		return nil, err
	}
	tree, err := kbuild.Open(ctx, opt)
	if err != nil {
		return nil, err
	}
	shadow, err := build.Shadow(ctx, tree)
	if err != nil {
		return nil, err
	}
	h := &host{r: *r}
	conf := lab.Config{
		Release: release, Init: o.lupatch, NICs: []lab.NIC{{Model: r.card.model, Options: r.card.options}}, NoDrivers: true,
		NUMA: r.numa, IOMMU: r.iommu, Cmdline: r.cmdline, Memory: 768,
		Available: []string{"8021q", "sch_tbf"},
		Files:     []lab.File{{Path: "/root/lupatch_shadow.ko", Host: shadow}},
	}
	if r.debug {
		conf.Release, conf.Memory = lab.DebugKernel, 2048
	}
	for _, v := range r.versions {
		ko, err := shadowtest.Make(ctx, kernel, r.card.module, v)
		if err != nil {
			return nil, err
		}
		to := "/root/" + v + "/" + r.card.module + ".ko"
		conf.Files = append(conf.Files, lab.File{Path: to, Host: ko})
		h.files = append(h.files, to)
	}
	if r.pads {
		pads, err := makePads(ctx, tree)
		if err != nil {
			return nil, err
		}
		for i, p := range pads {
			conf.Files = append(conf.Files, lab.File{Path: fmt.Sprintf("/root/pad%d.ko", i), Data: p})
		}
	}
	if h.Host, err = lab.Boot(ctx, conf); err != nil {
		return nil, err
	}
	script := "insmod /root/lupatch_shadow.ko; for m in " + r.card.needs + " " + r.card.module + "; do modprobe $m; done"
	if _, err := h.sh(ctx, script); err != nil {
		h.Close()
		return nil, err
	}
	if _, err := h.WaitNetwork(ctx, "eth0"); err != nil {
		h.Close()
		return nil, err
	}
	return h, nil
}

func (h *host) sh(ctx context.Context, script string) (string, error) {
	r, err := h.Sh(ctx, script)
	if err != nil {
		return "", err
	}
	if r.Code != 0 {
		return "", fmt.Errorf("%s: status %d\n%s%s", script, r.Code, r.Stdout, r.Stderr)
	}
	return strings.TrimSpace(string(r.Stdout)), nil
}

// makePads compiles modules of several sizes that do nothing but lie in memory.
func makePads(ctx context.Context, t *kbuild.Tree) (out [][]byte, err error) {
	for i, pages := range []int{2, 5, 9, 14, 20} {
		dir, err := os.MkdirTemp("", "pad-")
		if err != nil {
			return nil, err
		}
		defer os.RemoveAll(dir)
		name := fmt.Sprintf("lupad%d", i)
		source := fmt.Sprintf("// SPDX-License-Identifier: GPL-2.0-only\n#include <linux/module.h>\nstatic char pad[%d] = { 1 };\nmodule_param_string(pad, pad, sizeof(pad), 0400);\nMODULE_LICENSE(\"GPL\");\n", pages*4096)
		if err := os.MkdirAll(filepath.Join(dir, name), 0o755); err != nil {
			return nil, err
		}
		for file, text := range map[string]string{name + ".c": source, "Makefile": "obj-m := " + name + ".o\n"} {
			if err := os.WriteFile(filepath.Join(dir, name, file), []byte(text), 0o644); err != nil {
				return nil, err
			}
		}
		ko, err := t.BuildDriver(ctx, kbuild.Driver{Root: dir, Dir: name, Module: name})
		if err != nil {
			return nil, err
		}
		out = append(out, ko)
	}
	return out, nil
}

// withPads has lupatch put modules into memory between the old driver and the new one,
// and take them out behind it.
const withPads = "LUPATCH_POINT_RUN=after driver disabled done:for p in /root/pad*.ko; do insmod $p; done"

// command runs lupatch and reads its answer.
func (h *host) command(ctx context.Context, argv ...string) (*update.Result, string, error) {
	c := lab.Cmd{Argv: append([]string{"/bin/lupatch"}, argv...), Timeout: 5 * time.Minute}
	if h.r.pads {
		point := withPads
		if argv[0] == "rollback" {
			point = strings.Replace(point, "driver disabled", "driver-rollback disabled", 1)
		}
		c.Env = append(c.Env, point)
	}
	r, err := h.Run(ctx, c)
	if err != nil {
		return nil, "", err
	}
	if h.r.pads {
		if _, err := h.sh(ctx, "for p in $(sed -n 's/^\\(lupad[0-9]\\) .*/\\1/p' /proc/modules); do rmmod $p; done"); err != nil {
			return nil, "", err
		}
	}
	var answer struct {
		Applied    []update.Result `json:"applied"`
		RolledBack []update.Result `json:"rolled_back"`
	}
	if r.Code != 0 {
		return nil, fmt.Sprintf("%s: exit code %d: %s", argv[0], r.Code, oneLine(r.Stderr)), nil
	}
	if err := json.Unmarshal(r.Stdout, &answer); err != nil {
		return nil, "", fmt.Errorf("reading the answer of lupatch: %w\n%s", err, r.Stdout)
	}
	all := append(answer.Applied, answer.RolledBack...)
	if len(all) != 1 {
		return nil, "", fmt.Errorf("lupatch answers %s", r.Stdout)
	}
	return &all[0], "", nil
}

func oneLine(b []byte) string { return strings.Join(strings.Fields(string(b)), " ") }
