// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"

	"github.com/lupatch/lupatch/internal/lab/wire"
)

// The guest's kernel says by its error number why it does not load or unload a
// module: errors.Is(err, unix.EBUSY) and the like work on what these return.

// Insmod loads a module file of the guest.
func (h *Host) Insmod(ctx context.Context, path, params string) error {
	return h.module(ctx, "loading "+path, wire.OpInsmod, wire.Module{Path: path, Params: params})
}

// Modprobe loads a module of the guest's /lib/modules after what it depends on.
// One that is loaded already is no error.
func (h *Host) Modprobe(ctx context.Context, name, params string) error {
	return h.module(ctx, "loading "+name, wire.OpModprobe, wire.Module{Name: name, Params: params})
}

// Rmmod unloads a module if nothing uses it.
func (h *Host) Rmmod(ctx context.Context, name string) error {
	return h.module(ctx, "unloading "+name, wire.OpRmmod, wire.Module{Name: name})
}

// module allows more time than other requests: relocating a livepatch against
// vmlinux takes seconds on 6.1, which searches all symbols for each of them.
func (h *Host) module(ctx context.Context, doing, op string, body wire.Module) error {
	ctx, cancel := context.WithTimeout(ctx, DefaultTimeout)
	defer cancel()
	return h.explain(doing, h.conn.request(ctx, op, body, nil))
}
