// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"encoding/json"
	"time"
)

// Hello is what the agent says of itself.
type Hello struct {
	Version int     `json:"version"`
	Release string  `json:"release"`
	Uptime  float64 `json:"uptime"` // seconds since the kernel started
	CPUs    int     `json:"cpus"`
	// Loaded are the modules loaded at boot; Failed says which could not be.
	Loaded []string `json:"loaded,omitempty"`
	Failed []string `json:"failed,omitempty"`
}

// Exec starts a program. Its output comes as OpOutput and OpErrors; OpDone has
// an Exit.
type Exec struct {
	Argv    []string      `json:"argv"`
	Env     []string      `json:"env,omitempty"`
	Dir     string        `json:"dir,omitempty"`
	Timeout time.Duration `json:"timeout,omitempty"` // 0: none
	Stdin   bool          `json:"stdin,omitempty"`   // OpStdin will follow
	TTY     bool          `json:"tty,omitempty"`
	Size    Size          `json:"size,omitempty"`
}

// Size of a terminal.
type Size struct {
	Rows uint16 `json:"rows,omitempty"`
	Cols uint16 `json:"cols,omitempty"`
}

// Started is the OpEvent that follows a successful start.
type Started struct {
	PID int `json:"pid"`
}

// Exit is how a program ended.
type Exit struct {
	Code     int  `json:"code"`             // 128+signal if killed by one
	Signal   int  `json:"signal,omitempty"` // 0 if it ended by itself
	TimedOut bool `json:"timed_out,omitempty"`
}

// Target names the program that OpKill and OpResize are about by the ID of its
// OpExec.
type Target struct {
	ID     uint64 `json:"id"`
	Signal int    `json:"signal,omitempty"`
	Size   Size   `json:"size,omitempty"`
}

// Put opens a file; its content follows as OpPutData with the same ID.
type Put struct {
	Path string `json:"path"`
	Mode uint32 `json:"mode"`
}

// Digest closes a transfer in either direction.
type Digest struct {
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
	Mode   uint32 `json:"mode,omitempty"`
}

// Get asks for a file: OpData, then OpDone with a Digest.
type Get struct {
	Path string `json:"path"`
}

// Module is for OpInsmod (Path), OpModprobe and OpRmmod (Name).
type Module struct {
	Path   string `json:"path,omitempty"`
	Name   string `json:"name,omitempty"`
	Params string `json:"params,omitempty"`
}

// Network asks to wait until an interface has its address and a carrier; OpDone
// has an Interface.
type Network struct {
	Name string `json:"name"`
}

// Interface is the state of a network interface.
type Interface struct {
	Name    string `json:"name"`
	Address string `json:"address"`
	Carrier bool   `json:"carrier"`
}

// Stream asks the agent to connect to Port of the machine that runs QEMU and to
// exchange checked blocks. OpHalt ends it; OpDone has the guest's statistics.
type Stream struct {
	Port int `json:"port"`
	// UDP sends numbered datagrams instead of a connection's blocks.
	UDP bool `json:"udp,omitempty"`
	// Device is the interface that it has to go through; empty for any.
	Device   string        `json:"device,omitempty"`
	Block    int           `json:"block"`
	Interval time.Duration `json:"interval"`
}

// Body encodes a structure for Message.Body. The types of this package cannot
// fail to encode.
func Body(v any) json.RawMessage {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return b
}
