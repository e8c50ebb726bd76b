// SPDX-License-Identifier: Apache-2.0

package shadow

import (
	"bytes"
	"time"
	"unsafe"
)

// What shadow/kmod/lupatch_shadow.h declares. The sizes are asserted on both sides.
const (
	abiVersion = 1
	nameLen    = 56
	textLen    = 224
	hooksMax   = 32
)

// State is how far the replacement of one device's driver has come.
type State uint32

// The states, in the order in which a device goes through them.
const (
	// Owned: its driver works, nothing has been done.
	Owned State = iota
	// Stopped: it is impersonated, its driver is still bound.
	Stopped
	// Alone: it is impersonated and has no driver.
	Alone
	// Returning: a probe has failed, it is about to be Alone again.
	Returning
	// Probing: a driver's probe has it.
	Probing
	// Registered: the probe has registered it and not returned.
	Registered
	// Bound: the probe has returned, it is about to be opened.
	Bound
	// Held: the new driver works; packets wait for the carrier.
	Held
	// Running: the new driver works.
	Running
	// Lost: who probed it died in there; it is without a driver until the next boot.
	Lost
	// GivenUp: it was unregistered, as no driver took it.
	GivenUp
)

var stateNames = [...]string{"owned", "stopped", "alone", "returning", "probing", "registered", "bound", "held", "running", "lost", "given up"}

// String is the state's name.
func (s State) String() string {
	if int(s) < len(stateNames) {
		return stateNames[s]
	}
	return "unknown"
}

// Driven says that a driver works on the device.
func (s State) Driven() bool { return s == Owned || s == Held || s == Running }

// Moment is an index of a device's times.
type Moment int

// The moments of a replacement.
const (
	MomentStop Moment = iota
	MomentStopped
	MomentUnregister
	MomentFree
	MomentUnbound
	MomentBind
	MomentAlloc
	MomentRegister
	MomentBound
	MomentOpen
	MomentOpened
	MomentCarrier
	MomentReleased
	MomentSent
	moments = 16
)

// Kind is what an event tells.
type Kind uint16

// The kinds of events.
const (
	// EventState: the device's state; Arg has it.
	EventState Kind = iota
	// EventNote: something worth knowing.
	EventNote
	// EventLost: the new driver lacks something.
	EventLost
	// EventReplay: a setting could not be put back.
	EventReplay
	// EventPointer: a preserved object points into the old module.
	EventPointer
	// EventError: something failed; Arg has the error number.
	EventError
	// EventOrphaned: nobody drives the session.
	EventOrphaned
	// EventDied: the task that probed died.
	EventDied
)

type helloArg struct {
	abi, deviceSize, eventSize, hooks, slack, marked uint32
	session                                          uint64
	hook                                             [hooksMax]struct {
		name          [40]byte
		enabled, when uint32
	}
}

type beginArg struct {
	module         [nameLen]byte
	flags, devices uint32
	session        uint64
	reason         [textLen]byte
}

type resultArg struct {
	session     uint64
	device, pad uint32
	reason      [textLen]byte
}

type deviceArg struct {
	index, state                                      uint32
	ifindex                                           int32
	port                                              uint32
	netns                                             uint64
	name                                              [16]byte
	parent                                            [64]byte
	room, asked, up, carrier, lost, replayFailed      uint32
	when                                              [moments]uint64
	txBusy, statsReads, linkEvents, nameStore, opsSto uint64
}

type eventArg struct {
	when      uint64
	device    uint32
	kind      uint16
	arg       int16
	lost, pad uint32
	text      [textLen]byte
}

// A wrong size does not compile.
var (
	_ [1568]byte = [unsafe.Sizeof(helloArg{})]byte{}
	_ [296]byte  = [unsafe.Sizeof(beginArg{})]byte{}
	_ [240]byte  = [unsafe.Sizeof(resultArg{})]byte{}
	_ [296]byte  = [unsafe.Sizeof(deviceArg{})]byte{}
	_ [248]byte  = [unsafe.Sizeof(eventArg{})]byte{}
)

// request numbers, as _IOWR('L', nr, size) makes them (Documentation/driver-api/ioctl.rst).
func request(nr, size uintptr) uintptr { return 3<<30 | size<<16 | 'L'<<8 | nr }

var (
	reqHello    = request(0, unsafe.Sizeof(helloArg{}))
	reqBegin    = request(1, unsafe.Sizeof(beginArg{}))
	reqGuard    = request(2, unsafe.Sizeof(resultArg{}))
	reqTakeover = request(3, unsafe.Sizeof(resultArg{}))
	reqPing     = request(4, unsafe.Sizeof(resultArg{}))
	reqStop     = request(5, unsafe.Sizeof(resultArg{}))
	reqResume   = request(6, unsafe.Sizeof(resultArg{}))
	reqUnbind   = request(7, unsafe.Sizeof(resultArg{}))
	reqRebind   = request(8, unsafe.Sizeof(resultArg{}))
	reqDevice   = request(9, unsafe.Sizeof(deviceArg{}))
	reqFinish   = request(10, unsafe.Sizeof(resultArg{}))
	reqGiveUp   = request(11, unsafe.Sizeof(resultArg{}))
)

func text(b []byte) string {
	s, _, _ := bytes.Cut(b, []byte{0})
	return string(s)
}

// Device is one device of a session.
type Device struct {
	// Index is its number in the session.
	Index int   `json:"index"`
	State State `json:"-"`
	// Name is the interface's, Parent that of its bus device, Port which of that
	// device's ports it is, NetNS the inode number of its network namespace.
	Name    string `json:"name"`
	Parent  string `json:"parent"`
	Port    int    `json:"port"`
	Ifindex int    `json:"ifindex"`
	NetNS   uint64 `json:"netns"`
	// Room is how many bytes there are for the driver's private area, Asked how many
	// the last probe has asked for.
	Room  int `json:"room"`
	Asked int `json:"asked"`
	// Up and Carrier say what it was before it was stopped.
	Up      bool `json:"up"`
	Carrier bool `json:"carrier"`
	// Lost is how many abilities the new driver lacks, Unset how many settings it did
	// not take.
	Lost  int `json:"lost"`
	Unset int `json:"unset"`
	// When are the moments by CLOCK_MONOTONIC; 0: not yet.
	When [moments]time.Duration `json:"-"`
	// TxBusy is how many packets were turned back, NameStores and OpsStores how many
	// stores of a probe were put right.
	TxBusy     uint64 `json:"tx_busy"`
	StatsReads uint64 `json:"stats_reads"`
	LinkEvents uint64 `json:"link_events"`
	NameStores uint64 `json:"name_stores"`
	OpsStores  uint64 `json:"ops_stores"`
}

// Since is the time from the stop of the old driver to a moment; false if that has
// not come.
func (d *Device) Since(m Moment) (time.Duration, bool) {
	if d.When[m] == 0 || d.When[MomentStop] == 0 {
		return 0, false
	}
	return d.When[m] - d.When[MomentStop], true
}

func (a *deviceArg) device() *Device {
	d := &Device{
		Index: int(a.index), State: State(a.state), Name: text(a.name[:]), Parent: text(a.parent[:]), Port: int(a.port),
		Ifindex: int(a.ifindex), NetNS: a.netns, Room: int(a.room), Asked: int(a.asked), Up: a.up != 0, Carrier: a.carrier != 0,
		Lost: int(a.lost), Unset: int(a.replayFailed), TxBusy: a.txBusy, StatsReads: a.statsReads, LinkEvents: a.linkEvents,
		NameStores: a.nameStore, OpsStores: a.opsSto,
	}
	for i, w := range a.when {
		d.When[i] = time.Duration(w)
	}
	return d
}

// Event is one entry of a session's log.
type Event struct {
	// When by CLOCK_MONOTONIC.
	When time.Duration
	// Device is its index, -1 for the session.
	Device int
	Kind   Kind
	Arg    int
	// Dropped is how many events before this one nobody has read in time.
	Dropped int
	Text    string
}

func (a *eventArg) event() Event {
	e := Event{When: time.Duration(a.when), Device: int(a.device), Kind: Kind(a.kind), Arg: int(a.arg), Dropped: int(a.lost), Text: text(a.text[:])}
	if a.device == ^uint32(0) {
		e.Device = -1
	}
	return e
}

// Hook is a function of the kernel that lupatch_shadow hooks.
type Hook struct {
	Name    string `json:"name"`
	Enabled bool   `json:"enabled"`
	// When it is: loaded, marked (while counters of a device are carried on) or session.
	When string `json:"when"`
}

var hookTimes = [...]string{"loaded", "marked", "session"}

// Info is what lupatch_shadow says about itself.
type Info struct {
	// Slack is what it adds to private areas, in bytes.
	Slack int `json:"slack"`
	// Marked is how many devices' counters are carried on.
	Marked int `json:"marked"`
	// Session is the number of the replacement that is going on; 0: none.
	Session uint64 `json:"session,omitempty"`
	Hooks   []Hook `json:"hooks"`
}
