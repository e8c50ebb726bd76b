// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"time"

	"github.com/lupatch/lupatch/internal/lab/wire"
)

// transferTime is how long a transfer may take: the serial line carries some
// 300 kB a second under emulation; a tenth of that is given up on.
func transferTime(size int) time.Duration {
	return requestTimeout + time.Duration(size)*time.Second/(30<<10)
}

// maxGet is assumed for a file whose size is not known.
const maxGet = 64 << 20

// Put writes a file in the guest, whole or not at all, and makes the folders
// above it.
func (h *Host) Put(ctx context.Context, path string, data []byte, mode os.FileMode) error {
	ctx, cancel := context.WithTimeout(ctx, transferTime(len(data)))
	defer cancel()
	doing := "writing " + path + " in the lab host"
	k, err := h.conn.start(ctx, wire.OpPut, wire.Put{Path: path, Mode: uint32(mode.Perm())})
	if err != nil {
		return h.explain(doing, err)
	}
	defer k.forget()
	sum := sha256.Sum256(data)
	digest := wire.Digest{Size: int64(len(data)), SHA256: hex.EncodeToString(sum[:])}
	for rest := data; ; {
		n := min(len(rest), wire.ChunkSize)
		m := &wire.Message{ID: k.id, Op: wire.OpPutData, Data: rest[:n], End: n == len(rest)}
		if m.End {
			m.Body = wire.Body(digest)
		}
		if err := h.conn.send(ctx, m); err != nil {
			return h.explain(doing, err)
		}
		if rest = rest[n:]; m.End {
			break
		}
	}
	for {
		m, err := k.reply(ctx)
		if err != nil {
			return h.explain(doing, err)
		}
		if m.Op == wire.OpDone {
			return nil
		}
	}
}

// PutFile copies a file of this machine into the guest with its mode.
func (h *Host) PutFile(ctx context.Context, hostPath, path string) error {
	info, err := os.Stat(hostPath)
	if err != nil {
		return fmt.Errorf("copying to the lab host: %w", err)
	}
	data, err := os.ReadFile(hostPath)
	if err != nil {
		return fmt.Errorf("copying to the lab host: %w", err)
	}
	return h.Put(ctx, path, data, info.Mode())
}

// Get reads a file of the guest; files of /proc and /sys too.
func (h *Host) Get(ctx context.Context, path string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, transferTime(maxGet))
	defer cancel()
	doing := "reading " + path + " in the lab host"
	k, err := h.conn.start(ctx, wire.OpGet, wire.Get{Path: path})
	if err != nil {
		return nil, h.explain(doing, err)
	}
	defer k.forget()
	var data bytes.Buffer
	for {
		m, err := k.reply(ctx)
		if err != nil {
			return nil, h.explain(doing, err)
		}
		if m.Op == wire.OpData {
			data.Write(m.Data)
			continue
		}
		var d wire.Digest
		if err := decode(m, &d); err != nil {
			return nil, h.explain(doing, err)
		}
		if sum := sha256.Sum256(data.Bytes()); hex.EncodeToString(sum[:]) != d.SHA256 {
			return nil, h.explain(doing, fmt.Errorf("%w: %d of %d bytes came", wire.ErrDamaged, data.Len(), d.Size))
		}
		return data.Bytes(), nil
	}
}
