// SPDX-License-Identifier: Apache-2.0

// Package manifest is the codec of what an update says about itself: JSON in
// the section .lupatch of a livepatch module, or in a file beside a driver. It knows nothing of where the
// bytes come from or what is done with the content.
package manifest

import "time"

// Section is the ELF section that carries the manifest. It is not loaded.
const Section = ".lupatch"

// Schema is the version of the format this package writes. A reader refuses
// what is newer and understands what is older. 2: updates stand on others. 3:
// whole drivers.
const Schema = 3

// Class is how far a change reaches, after the three kinds of change of
// "Providing Dynamic Update in an Operating System" (K42), section 4.
type Class string

const (
	// ClassCode changes only code.
	ClassCode Class = "code"
	// ClassData changes data that exists once.
	ClassData Class = "data"
	// ClassInstances changes the layout of data that exists many times.
	ClassInstances Class = "instances"
)

// Effect says when a change does something.
type Effect string

const (
	// EffectNow: at the end of the transition.
	EffectNow Effect = "now"
	// EffectNextProbe: for devices that are probed after it.
	EffectNextProbe Effect = "future-probes"
	// EffectNever: the code has already run.
	EffectNever Effect = "already-ran"
)

// Manifest is what an update says about itself.
type Manifest struct {
	Schema int `json:"schema"`
	// Name is the update's name and that of its module.
	Name string `json:"name"`
	// Method is "livepatch" or "driver".
	Method string `json:"method"`
	// Release is the kernel release (uname -r) it is for.
	Release string    `json:"release"`
	Created time.Time `json:"created"`
	Source  Source    `json:"source"`
	Tools   Tools     `json:"tools"`
	Class   Class     `json:"class"`
	Units   []Unit    `json:"units"`
	// On names the updates whose changes were in the source that it was built
	// from, the oldest first. All of them have to be in force.
	On []Base `json:"on,omitempty"`
	// Cumulative is set if it carries all that those change, too.
	Cumulative bool `json:"cumulative,omitempty"`
	// Moved names functions without ftrace site: what calls them calls a copy that
	// the update has. No other update is built on that.
	Moved []string `json:"moved,omitempty"`
	// Escapes lists places where the address of new code or data leaves the
	// update (timers, work items, operations tables): if there are any, the
	// module stays in memory after a rollback.
	Escapes []string `json:"escapes,omitempty"`
	// Review lists points that a person should look at before applying it.
	Review []string `json:"review,omitempty"`
}

// Base is an update that another one stands on.
type Base struct {
	Update string `json:"update"`
	// BuildID is that of its module, in hex: another build of the same update is
	// another update.
	BuildID string `json:"build_id"`
}

// Source is where the change comes from.
type Source struct {
	// SHA256 of the patch file, in hex; for a driver of its source files, or of the
	// module if that is all that is known.
	SHA256  string   `json:"sha256"`
	Subject string   `json:"subject,omitempty"`
	CVE     []string `json:"cve,omitempty"`
	// Files are the paths the patch touches, relative to the source tree.
	Files []string `json:"files"`
	// Version is the version of the source, such as 6.1.170-3.
	Version string `json:"version,omitempty"`
}

// Tools are what made the update.
type Tools struct {
	Lupatch  string `json:"lupatch"`
	Compiler string `json:"compiler"`
}

// Unit is what is replaced and versioned: vmlinux or one module.
type Unit struct {
	// Name is "vmlinux" or a module's name as /proc/modules shows it.
	Name string `json:"name"`
	// BuildID of the binary that the update was verified against, in hex; of the
	// one that a driver replaces, if that is known.
	BuildID string `json:"build_id"`
	// Needs and Gives are the unit's versions before and after. A driver replaces
	// any version; 0 and 1 stand there.
	Needs int `json:"needs"`
	Gives int `json:"gives"`
	// Verified is the number of functions found identical in the shipped binary.
	Verified  int        `json:"verified"`
	Functions []Function `json:"functions"`
	// Relocations counts references to the kernel resolved at load, by symbol.
	Relocations []Relocation `json:"relocations,omitempty"`
	// Data lists variables whose initial value the change alters.
	Data []Data `json:"data,omitempty"`
	// Callbacks are functions of the patch that the livepatch core calls.
	Callbacks []Callback `json:"callbacks,omitempty"`
	// AlreadyRan lists changed __init functions that no livepatch can carry.
	AlreadyRan []string `json:"already_ran,omitempty"`
	// Driver is set if the unit is replaced whole (method "driver").
	Driver *Driver `json:"driver,omitempty"`
}

// Function is one function that the update replaces or adds.
type Function struct {
	Name string `json:"name"`
	// File is the translation unit's source.
	File string `json:"file"`
	// Sympos is the kernel's count among symbols of one name; 0 if unique.
	Sympos int `json:"sympos"`
	// OldSize is 0 for a new function.
	OldSize uint64 `json:"old_size"`
	NewSize uint64 `json:"new_size"`
	// Digest (FNV-1a, 64 bits, hex) of the shipped code without what the kernel rewrites.
	Digest string `json:"digest,omitempty"`
	Effect Effect `json:"effect"`
	// Drivers are the names of the drivers whose probing this is, if known: their
	// devices that are bound have been through the old code.
	Drivers []string `json:"drivers,omitempty"`
	// Params are parameters of the unit whose values the old code has set.
	Params []string `json:"params,omitempty"`
	// New is set for a helper that the old version did not have.
	New bool `json:"new,omitempty"`
}

// Data is a variable whose initial value the change alters.
type Data struct {
	Name string `json:"name"`
	// File is the translation unit's source.
	File string `json:"file"`
	// Param is the parameter of the unit that the variable holds, if any.
	Param string `json:"param,omitempty"`
	// Action is write@pre, write@post or keep: whether the update writes the new
	// value before or after the transition, or leaves the running one.
	Action string `json:"action"`
	// Changes are the parts that differ, as "table[2].max: 10 → 11".
	Changes []string `json:"changes"`
}

// Callback is a function that the livepatch core calls.
type Callback struct {
	// Kind is pre_patch, post_patch, pre_unpatch or post_unpatch.
	Kind     string `json:"kind"`
	Function string `json:"function"`
	File     string `json:"file"`
}

// Relocation is a symbol of the kernel that new code refers to.
type Relocation struct {
	// Object is "vmlinux" or the module that has the symbol.
	Object string `json:"object"`
	Symbol string `json:"symbol"`
	Sympos int    `json:"sympos"`
	Count  int    `json:"count"`
	// Exported symbols are resolved by the module loader itself.
	Exported bool `json:"exported,omitempty"`
}
