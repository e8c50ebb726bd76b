// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"

	"github.com/lupatch/lupatch/internal/lab/poll"
	"github.com/lupatch/lupatch/internal/lab/wire"
)

// Poll is a running poll in the guest: see package poll.
type Poll struct {
	h    *Host
	call *call
}

// StartPoll lets the guest's agent read interfaces over and over, and returns
// when it has begun.
func (h *Host) StartPoll(ctx context.Context, opt poll.Options) (*Poll, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	const doing = "polling the lab host's interfaces"
	k, err := h.conn.start(ctx, wire.OpPoll, opt)
	if err != nil {
		return nil, h.explain(doing, err)
	}
	if _, err := k.reply(ctx); err != nil {
		k.forget()
		return nil, h.explain(doing, err)
	}
	return &Poll{h: h, call: k}, nil
}

// Stop ends the poll and gives what it met. The error is about asking for it:
// see poll.Report.Err.
func (p *Poll) Stop(ctx context.Context) (report poll.Report, err error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	defer p.call.forget()
	const doing = "polling the lab host's interfaces"
	if err := p.h.conn.send(ctx, &wire.Message{ID: p.call.id, Op: wire.OpHalt}); err != nil {
		return nil, p.h.explain(doing, err)
	}
	for {
		m, err := p.call.reply(ctx)
		if err != nil {
			return nil, p.h.explain(doing, err)
		}
		if m.Op == wire.OpDone {
			return report, decode(m, &report)
		}
	}
}
