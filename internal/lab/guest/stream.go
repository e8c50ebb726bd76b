// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"time"

	"github.com/lupatch/lupatch/internal/lab/stream"
	"github.com/lupatch/lupatch/internal/lab/wire"
)

const (
	// hostAddress is how QEMU's user network calls the machine it runs on.
	hostAddress = "10.0.2.2"
	// dialTimeout: the peer is on the same machine.
	dialTimeout = 20 * time.Second
	// drainTimeout is how long the rest of a stopped stream may take: longer
	// than TCP needs to notice that an interface works again.
	drainTimeout = 60 * time.Second
)

// stream connects and exchanges blocks until OpHalt, or until the connection
// fails. OpEvent says that it is connected.
func (a *agent) stream(id uint64, req wire.Stream) {
	halted, forget := a.halting(id)
	go func() {
		defer forget()
		conn, err := net.DialTimeout("tcp4", net.JoinHostPort(hostAddress, strconv.Itoa(req.Port)), dialTimeout)
		if err != nil {
			a.done(id, nil, fmt.Errorf("connecting the stream: %w", err))
			return
		}
		s := stream.Start(conn, stream.Options{Block: req.Block, Interval: req.Interval})
		_ = a.enc.Encode(&wire.Message{ID: id, Op: wire.OpEvent})
		select {
		case <-halted:
		case <-s.Done():
		}
		ctx, cancel := context.WithTimeout(context.Background(), drainTimeout)
		defer cancel()
		a.done(id, s.Stop(ctx), nil)
	}()
}
