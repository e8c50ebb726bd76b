// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"github.com/lupatch/lupatch/internal/lab/poll"
	"github.com/lupatch/lupatch/internal/lab/wire"
)

// poll reads what the kernel says about interfaces until OpHalt. OpEvent says
// that it has begun; OpDone has a poll.Report.
func (a *agent) poll(id uint64, opt poll.Options) {
	halted, forget := a.halting(id)
	go func() {
		defer forget()
		p, err := poll.Start(opt)
		if err != nil {
			a.done(id, nil, err)
			return
		}
		_ = a.enc.Encode(&wire.Message{ID: id, Op: wire.OpEvent})
		<-halted
		a.done(id, p.Stop(), nil)
	}()
}
